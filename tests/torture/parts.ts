import { join } from "node:path";
import { startChild } from "#infra/local/child.ts";
import { endpoints, type ServiceName, stackEnvironment } from "#infra/local/endpoints.ts";
import { logFile } from "#infra/local/folders.ts";
import { freePort } from "#infra/local/free-port.ts";
import { root } from "#infra/local/paths.mjs";
import {
  identify,
  isAlive,
  type ProcessIdentity,
  processTree,
  signalProcess,
  waitForEnd,
} from "#infra/local/processes.mjs";
import { httpCheck } from "#infra/local/readiness.ts";
import { readState } from "#infra/local/state.ts";
import { pause } from "#lib/back-off.ts";
import { eventually, stackName } from "#tests/stack.ts";
import { saveIdentities } from "#tests/torture/leftovers.ts";
import { FURTHER } from "#tests/torture/superuser.ts";

/**
 * The processes under torture: the stack's own parts, which its supervisor starts again, and a further ledger, relay and
 * projector (`ledger-2` …), which are started again here. Signals go to exactly the process that is meant.
 */
export interface Parts {
  readonly names: readonly string[];
  /** Undefined while it is down. */
  readonly identity: (name: string) => ProcessIdentity | undefined;
  /** Sends SIGKILL to the part and all its children; false when it was down already. */
  readonly kill9: (name: string) => boolean;
  /** Sends SIGSTOP to the part, or to these of its processes; answers what sends SIGCONT. */
  readonly stop: (name: string, pids?: readonly number[]) => (() => void) | undefined;
  readonly isStopped: (name: string) => boolean;
  /** Sends SIGCONT to whatever was stopped. */
  readonly resumeAll: () => void;
  /** Resolves when every part is ready. */
  readonly ready: () => Promise<void>;
  /** host:port of the further ledger. */
  readonly furtherLedger: string;
  /** Ends the further processes. */
  readonly end: () => Promise<void>;
}

const READY_TIMEOUT_MS = 150_000;
const RESTART_PAUSE_MS = 300;
const END_TIMEOUT_MS = 5_000;

interface Further {
  readonly name: string;
  readonly healthUrl: string;
  current: ProcessIdentity | undefined;
}

/** Starts the further processes. `shardUrls` is the way of the further ledger to its shards. */
export async function startParts(
  shardUrls: (environment: string) => string,
  withProjector: boolean,
  signal: AbortSignal,
): Promise<Parts> {
  const ending = new AbortController();
  const further: Further[] = [];
  const stopped = new Map<number, ProcessIdentity>();
  const loops: Promise<void>[] = [];
  const port = await freePort();

  async function start(service: ServiceName, more: Record<string, string>): Promise<void> {
    const healthPort = await freePort();
    const name = `${service}${FURTHER}`;
    const part: Further = { name, healthUrl: `http://127.0.0.1:${healthPort}/healthz`, current: undefined };
    further.push(part);
    const environment = {
      ...stackEnvironment(stackName, service),
      LEDGERMESH_HEALTH_PORT: String(healthPort),
      ...more,
    };
    loops.push(keepRunning(part, { service, environment }));
  }

  async function keepRunning(
    part: Further,
    { service, environment }: { service: ServiceName; environment: Record<string, string> },
  ): Promise<void> {
    const command = { command: process.execPath, args: [join(root, `services/${service}/main.ts`)], environment };
    while (!ending.signal.aborted) {
      const child = startChild(command, logFile(stackName, part.name));
      part.current = child.identity;
      saveIdentities(further.flatMap(({ current }) => current ?? []));
      await child.ended;
      part.current = undefined;
      await pause(RESTART_PAUSE_MS, ending.signal);
    }
  }

  const shardsOf = (service: ServiceName) =>
    named(service, stackEnvironment(stackName, service).LEDGERMESH_SHARDS ?? "");
  await start("ledger", { LEDGERMESH_GRPC_PORT: String(port), LEDGERMESH_SHARDS: shardUrls(shardsOf("ledger")) });
  await start("relay", { LEDGERMESH_SHARDS: shardsOf("relay") });
  if (withProjector) await start("projector", { LEDGERMESH_SHARDS: shardsOf("projector") });

  const own = (readState(stackName)?.parts ?? []).filter(({ state }) => state !== "done").map(({ name }) => name);
  const { health } = endpoints(stackName);
  const healthUrls = [
    ...(["ledger", "relay", "projector"] as const)
      .filter((name) => own.includes(name))
      .map((name) => `${health[name]}/healthz`),
    ...further.map(({ healthUrl }) => healthUrl),
  ];

  const identity = (name: string): ProcessIdentity | undefined => {
    const known = further.find((part) => part.name === name);
    const found = known === undefined ? recordOf(name)?.process : known.current;
    return found !== undefined && isAlive(found) ? found : undefined;
  };
  const resume = (identities: Iterable<ProcessIdentity>) => {
    for (const one of identities) {
      signalProcess(one, "SIGCONT");
      stopped.delete(one.pid);
    }
  };
  return {
    names: [...own, ...further.map(({ name }) => name)],
    identity,
    kill9(name) {
      const found = identity(name);
      if (found === undefined) return false;
      const children = processTree(found.pid).flatMap((pid) => identify(pid) ?? []);
      for (const each of children) signalProcess(each, "SIGKILL");
      return true;
    },
    stop(name, pids) {
      const found = identity(name);
      if (found === undefined) return undefined;
      const identities = (pids ?? [found.pid]).flatMap((pid) => identify(pid) ?? []);
      for (const one of identities) {
        stopped.set(one.pid, one);
        signalProcess(one, "SIGSTOP");
      }
      return () => resume(identities);
    },
    isStopped: (name) => stopped.has(identity(name)?.pid ?? 0),
    resumeAll: () => resume([...stopped.values()]),
    async ready() {
      for (const name of own) {
        await eventually(() => recordOf(name)?.state === "ready", `${name} is ready`, READY_TIMEOUT_MS);
      }
      for (const url of healthUrls) {
        await eventually(
          async () => {
            signal.throwIfAborted();
            const missing = await httpCheck(url)();
            if (missing !== undefined) throw new Error(missing);
            return true;
          },
          `${url} is ready`,
          READY_TIMEOUT_MS,
        );
      }
    },
    furtherLedger: `127.0.0.1:${port}`,
    async end() {
      ending.abort();
      for (const { current } of further) {
        if (current === undefined) continue;
        signalProcess(current, "SIGCONT");
        signalProcess(current, "SIGKILL");
        await waitForEnd(current, END_TIMEOUT_MS);
      }
      await Promise.all(loops);
    },
  };
}

function recordOf(name: string) {
  return readState(stackName)?.parts.find((part) => part.name === name);
}

/** Connection strings whose sessions say that they are a further service's. */
function named(service: ServiceName, shards: string): string {
  return shards
    .split(",")
    .map((shard) => `${shard}?application_name=${service}${FURTHER}`)
    .join(",");
}
