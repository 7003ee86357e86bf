import { type Random, seededRandom } from "#cli/random.ts";
import { pause } from "#lib/back-off.ts";
import { type Command, type Finding, type History, isAnswered } from "#tests/torture/history.ts";
import { type LedgerClient, send } from "#tests/torture/send.ts";
import { type Plan, type Workload, workloads } from "#tests/torture/workloads.ts";
import type { World } from "#tests/torture/world.ts";

/**
 * The clients. Each has a chance of its own from the seed. A call without a clear answer is repeated with the same key
 * until there is one, through whichever ledger; some clients do not bother, and leave it unknown.
 */
const CLIENTS = 16;
const MIN_THINK_MS = 10;
const MAX_THINK_MS = 90;
const CARELESS_CHANCE = 0.15;
const FIRST_RETRY_MS = 30;
const MAX_RETRY_MS = 600;
/** With the deadline of a call, more than every fault and the quiet after it take. */
const MAX_ATTEMPTS = 400;
/** A bound of one client's commands between two looks at its signal. */
const TOTAL_WEIGHT = workloads.reduce((sum, { weight }) => sum + weight, 0);

export interface Clients {
  /** Sends commands in one call until all have an answer; `first` is the ledger to ask first. */
  readonly pursue: (commands: readonly Command[], random: Random, first?: LedgerClient) => Promise<void>;
  /** The same without being waited for, but by `settled`. */
  readonly pursueBeside: (commands: readonly Command[], random: Random, first: LedgerClient) => void;
  /** Resolves when all that is pursued beside has its answer. */
  readonly settled: () => Promise<void>;
  /** Starts the load; it ends after the signal aborts, when every client has its answer. */
  readonly run: (world: World, seed: number, signal: AbortSignal) => Promise<void>;
  /** Answers that no command may ever have. */
  readonly findings: () => readonly Finding[];
}

export function openClients(history: History, ledgers: readonly LedgerClient[]): Clients {
  const findings: Finding[] = [];
  const beside = new Set<Promise<void>>();
  const never = new AbortController().signal;

  async function pursue(commands: readonly Command[], random: Random, first?: LedgerClient): Promise<void> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      const ledger = attempt === 1 && first !== undefined ? first : random.pick(ledgers);
      await send(history, ledger, commands);
      if (commands.every(isAnswered)) return;
      await pause(random.between(FIRST_RETRY_MS, Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt)), never);
    }
    const ids = commands.filter((command) => !isAnswered(command)).map(({ key }) => key);
    findings.push({ what: `no answer after ${MAX_ATTEMPTS} attempts`, ids });
  }

  async function client(world: World, random: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const workload = choose(random);
      const plan = workload.make(world, random);
      if (plan !== undefined) await carryOut(world, workload.name, plan, random);
      await pause(random.between(MIN_THINK_MS, MAX_THINK_MS), signal);
    }
  }

  async function carryOut(world: World, name: string, plan: Plan, random: Random): Promise<void> {
    const commands = plan.orders.map((order) => history.open(name, order));
    if (plan.twins === true) await Promise.all(ledgers.map((ledger) => send(history, ledger, commands)));
    else await send(history, random.pick(ledgers), commands);
    const careless = random.chance(CARELESS_CHANCE) && plan.insists !== true;
    if (!commands.every(isAnswered) && !careless) await pursue(commands, random);
    for (const command of commands) world.learn(command);
    if (plan.reuse === true) await reuse(commands[0] as Command, random);
    if (plan.next !== undefined) await carryOut(world, name, plan.next, random);
  }

  /** Another body under the key of a command that was made must be refused, and change nothing. */
  async function reuse({ key, order, attempts }: Command, random: Random): Promise<void> {
    if (order.rpc !== "createTransfer" || !attempts.some(({ answer }) => answer.kind === "posted")) return;
    const request = { ...order.request, memo: "another body" };
    const other: Command = { key, workload: "reuse", order: { rpc: order.rpc, request }, attempts: [] };
    await send(history, random.pick(ledgers), [other]);
    const [attempt] = other.attempts;
    const { kind, reason = "" } = (attempt?.answer ?? {}) as { kind?: string; reason?: string };
    if (kind === "not_done" || kind === "unknown" || reason === "IDEMPOTENCY_KEY_REUSED") return;
    findings.push({ what: `another body under a used key was answered ${kind} ${reason}`, ids: [key] });
  }

  return {
    pursue,
    pursueBeside(commands, random, first) {
      const work = pursue(commands, random, first).finally(() => beside.delete(work));
      beside.add(work);
    },
    async settled() {
      await Promise.all(beside);
    },
    findings: () => findings,
    async run(world, seed, signal) {
      const randoms = Array.from({ length: CLIENTS }, (_, index) => seededRandom(seed + index * 7_919));
      await Promise.all(randoms.map((random) => client(world, random, signal)));
    },
  };
}

function choose(random: Random): Workload {
  let left = random.next() * TOTAL_WEIGHT;
  for (const workload of workloads) {
    left -= workload.weight;
    if (left < 0) return workload;
  }
  return workloads[0] as Workload;
}
