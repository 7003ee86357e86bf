import type { Random } from "#cli/random.ts";
import { processTree } from "#infra/local/processes.mjs";
import { pause } from "#lib/back-off.ts";
import { shardNumbers } from "#tests/stack.ts";
import type { FaultyNetwork } from "#tests/torture/faulty-network.ts";
import type { Parts } from "#tests/torture/parts.ts";
import { ask } from "#tests/torture/superuser.ts";

/** Faults at random moments, one row each. Each undoes itself, and says what it did. */

export interface FaultContext {
  readonly parts: Parts;
  /** Between the further ledger and each shard, shard 1 first. */
  readonly networks: readonly FaultyNetwork[];
  /** Aborts when the faults end: pauses end early then. */
  readonly signal: AbortSignal;
}

export interface Fault {
  readonly name: string;
  /** How often, against the others. */
  readonly weight: number;
  /** At most so often in a run; undefined: any number of times. */
  readonly most?: number;
  /** Whether it makes sense with these parts. */
  readonly needs?: string;
  /** Answers the target, or undefined when there was nothing to do it to. */
  readonly strike: (ctx: FaultContext, random: Random) => Promise<string | undefined>;
}

const MIN_STOP_MS = 500;
const MAX_STOP_MS = 8_000;
const MAX_FREEZE_MS = 4_000;

export const faults: readonly Fault[] = [
  { name: "kill -9 ledger", weight: 5, strike: kill(["ledger", "ledger-2"]) },
  { name: "kill -9 relay", weight: 3, strike: kill(["relay", "relay-2"]) },
  { name: "kill -9 both relays", weight: 1, strike: killBoth("relay", "relay-2") },
  { name: "kill -9 both ledgers", weight: 1, strike: killBoth("ledger", "ledger-2") },
  { name: "kill -9 projector", weight: 2, needs: "projector", strike: kill(["projector", "projector-2"]) },
  { name: "stop ledger", weight: 4, strike: stop(["ledger", "ledger-2"]) },
  { name: "stop relay", weight: 2, strike: stop(["relay", "relay-2"]) },
  { name: "stop projector", weight: 1, needs: "projector", strike: stop(["projector", "projector-2"]) },
  { name: "crash postgres", weight: 4, strike: crashPostgres },
  { name: "kill -9 backend", weight: 1, strike: killBackend },
  { name: "stop postmaster", weight: 1, strike: stopPostgres("postmaster") },
  { name: "stop backend", weight: 2, strike: stopPostgres("backend") },
  { name: "stop postgres", weight: 1, strike: stopPostgres("everything") },
  { name: "terminate connections", weight: 3, strike: terminate },
  { name: "kill -9 nats", weight: 3, strike: kill(["nats"]) },
  { name: "kill -9 relays, nats stopped", weight: 2, strike: killRelaysWithoutNats },
  { name: "stop nats", weight: 2, strike: stop(["nats"]) },
  { name: "kill -9 elasticsearch", weight: 1, most: 2, needs: "elasticsearch", strike: kill(["elasticsearch"]) },
  { name: "stop elasticsearch", weight: 2, needs: "elasticsearch", strike: stop(["elasticsearch"]) },
  { name: "lose answers to commits", weight: 3, strike: lose("loseAnswers") },
  { name: "lose commits", weight: 2, strike: lose("loseCommits") },
  { name: "cut network", weight: 2, strike: cut },
  { name: "freeze network", weight: 1, strike: freeze },
];

function kill(names: readonly string[]): Fault["strike"] {
  return async ({ parts }, random) => {
    const name = random.pick(names);
    return parts.kill9(name) ? name : undefined;
  };
}

function killBoth(...names: readonly string[]): Fault["strike"] {
  return async ({ parts }) => {
    const killed = names.filter((name) => parts.kill9(name));
    return killed.length === 0 ? undefined : killed.join(", ");
  };
}

/** What was read from the log and not acknowledged is only in the relay's memory. */
async function killRelaysWithoutNats({ parts, signal }: FaultContext, random: Random): Promise<string | undefined> {
  const resume = parts.stop("nats");
  if (resume === undefined) return undefined;
  await pause(random.between(MIN_STOP_MS, MAX_FREEZE_MS), signal);
  const killed = ["relay", "relay-2"].filter((name) => parts.kill9(name));
  resume();
  return killed.join(", ");
}

function stop(names: readonly string[]): Fault["strike"] {
  return async ({ parts, signal }, random) => {
    const name = random.pick(names);
    const durationMs = stopMs(random);
    const resume = parts.stop(name);
    if (resume === undefined) return undefined;
    await pause(durationMs, signal);
    resume();
    return `${name} for ${durationMs} ms`;
  };
}

/** More often a short time than a long one. */
function stopMs(random: Random): number {
  return Math.round(MIN_STOP_MS * (MAX_STOP_MS / MIN_STOP_MS) ** random.next());
}

async function crashPostgres({ parts }: FaultContext, random: Random): Promise<string | undefined> {
  const name = postgresOf(random.pick(shardNumbers));
  return parts.kill9(name) ? name : undefined;
}

export const postgresOf = (shard: number) => `postgres-${shard}`;

const LEDGER_BACKENDS = "select pid from pg_stat_activity where usename = 'ledger' order by random()";

/** Postgres takes it for a crash: it ends all sessions and recovers. */
async function killBackend(_: FaultContext, random: Random): Promise<string | undefined> {
  const shard = random.pick(shardNumbers);
  const [backend] = (await ask(shard, LEDGER_BACKENDS)) ?? [];
  if (backend === undefined) return undefined;
  try {
    process.kill(backend.pid as number, "SIGKILL");
  } catch {
    return undefined;
  }
  return postgresOf(shard);
}

function stopPostgres(what: "postmaster" | "backend" | "everything"): Fault["strike"] {
  return async ({ parts, signal }, random) => {
    const shard = random.pick(shardNumbers);
    const name = postgresOf(shard);
    const durationMs = stopMs(random);
    const root = parts.identity(name);
    if (root === undefined) return undefined;
    const [backend] = what === "backend" ? ((await ask(shard, LEDGER_BACKENDS)) ?? []) : [];
    if (what === "backend" && backend === undefined) return undefined;
    const pids =
      what === "everything" ? processTree(root.pid) : what === "backend" ? [backend?.pid as number] : [root.pid];
    const resume = parts.stop(name, pids);
    await pause(durationMs, signal);
    resume?.();
    return `${name} for ${durationMs} ms`;
  };
}

async function terminate(_: FaultContext, random: Random): Promise<string | undefined> {
  const shard = random.pick(shardNumbers);
  const ended = await ask(
    shard,
    "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('ledger', 'relay', 'projector')",
  );
  return ended === undefined ? undefined : `${postgresOf(shard)}, ${ended.length} connections`;
}

const LOSE_TIMEOUT_MS = 4_000;
const LOSE_POLL_MS = 20;
const MAX_LOST_COMMITS = 8;

function lose(what: "loseAnswers" | "loseCommits"): Fault["strike"] {
  return async ({ networks, signal }, random) => {
    const shard = random.pick(shardNumbers);
    const network = networks[shard - 1] as FaultyNetwork;
    const count = random.between(1, MAX_LOST_COMMITS);
    const before = network.lost();
    network[what](count);
    const untilMs = performance.now() + LOSE_TIMEOUT_MS;
    while (network.lost() < before + count && performance.now() < untilMs && !signal.aborted) {
      await pause(LOSE_POLL_MS, signal);
    }
    network.thaw();
    const lost = network.lost() - before;
    return lost === 0 ? undefined : `ledger-2, ${postgresOf(shard)}, ${lost} times`;
  };
}

async function cut({ networks }: FaultContext, random: Random): Promise<string> {
  const shard = random.pick(shardNumbers);
  networks[shard - 1]?.cut();
  return `ledger-2, ${postgresOf(shard)}`;
}

async function freeze({ networks, signal }: FaultContext, random: Random): Promise<string> {
  const shard = random.pick(shardNumbers);
  const durationMs = random.between(MIN_STOP_MS, MAX_FREEZE_MS);
  networks[shard - 1]?.freeze();
  await pause(durationMs, signal);
  networks[shard - 1]?.thaw();
  return `ledger-2, ${postgresOf(shard)} for ${durationMs} ms`;
}
