import { setTimeout as sleep } from "node:timers/promises";
import { type Child, lastLines, startChild } from "#infra/local/child.ts";
import { endProcess } from "#infra/local/end-process.ts";
import { logFile } from "#infra/local/folders.ts";
import type { Command, Part } from "#infra/local/parts.ts";
import { portsOf, type StackName } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { identify, isAlive, type ProcessIdentity } from "#infra/local/processes.mjs";
import type { ReadinessCheck } from "#infra/local/readiness.ts";
import { inStopOrder, type PartRecord, removeState, type StackState, writeState } from "#infra/local/state.ts";

/**
 * Keeps the parts of one stack running. Each part lives in a loop of its own:
 *
 *     waiting -> starting -> ready -> (its process ends) -> restarting -> starting -> ...
 *
 * A task goes from starting to done. A part that is not ready in its time at the first start, or ends too often before it
 * was ever ready, fails the start of the stack; later it is started again for ever, ever more slowly.
 */
const READY_POLL_MS = 50;
const FIRST_START_ATTEMPTS_MAX = 3;
const BACK_OFF_FIRST_MS = 250;
const BACK_OFF_MAX_MS = 10_000;
/** A process that ran for this long was healthy: the next back-off begins anew. */
const HEALTHY_AFTER_MS = 30_000;
const FAILURE_LOG_LINES = 15;

/** How long to wait before the restart after so many failures in a row (from 1 on). */
export function backOffMs(failures: number): number {
  return Math.min(BACK_OFF_MAX_MS, BACK_OFF_FIRST_MS * 2 ** (failures - 1));
}

export interface Supervisor {
  /** Starts every part. Throws a Problem when one cannot be started; then `stop` is still to be called. */
  start(): Promise<void>;
  /** Stops everything in order; safe at any moment, also during the start. */
  stop(): Promise<void>;
}

export function createSupervisor(stack: StackName, parts: readonly Part[], say: (line: string) => void): Supervisor {
  const supervisor = identify(process.pid);
  if (supervisor === undefined) throw new Error("/proc does not show this process");
  const ports = portsOf(stack);
  const startedAt = new Date().toISOString();
  const stopping = new AbortController();
  const children = new Map<string, Child>();
  const loops: Promise<void>[] = [];
  const records = new Map<string, PartRecord>(
    parts.map((part) => [
      part.name,
      {
        name: part.name,
        state: "waiting",
        ports: Object.fromEntries(part.ports.map((name) => [name, ports[name]])),
        restarts: 0,
        stopSignal: part.stopSignal,
        stopWithinMs: part.stopWithinMs,
        stopOrder: part.stopOrder,
      },
    ]),
  );
  let phase: StackState["phase"] = "starting";

  function save(): void {
    try {
      writeState({ stack, phase, supervisor: supervisor as ProcessIdentity, startedAt, parts: [...records.values()] });
    } catch (error) {
      // A full disk must not end the supervisor, and with it the restarts and the order of the stop.
      say(`could not write down the state of the stack: ${error}`);
    }
  }

  function record(part: Part, change: (known: PartRecord) => PartRecord): void {
    records.set(part.name, change(records.get(part.name) as PartRecord));
    save();
  }

  function spawnFor(part: Part, command: Command): Child {
    const child = startChild(command, logFile(stack, part.name));
    children.set(part.name, child);
    const started = { process: child.identity, startedAt: new Date().toISOString() };
    record(part, (known) => ({ ...known, ...started, state: "starting" }));
    return child;
  }

  /** Starts the process of a part, after what comes before it. Throws when that fails or the stack is stopping. */
  async function launch(part: Part): Promise<Child> {
    const earlier = children.get(part.name);
    if (earlier !== undefined) await endProcess(earlier.identity, part.stopSignal, part.stopWithinMs);
    await part.prepare?.();
    if (part.before !== undefined) {
      stopping.signal.throwIfAborted();
      const { code, text } = await spawnFor(part, part.before()).ended;
      if (code !== 0) throw new Error(`what it needs first failed (${text})`);
    }
    stopping.signal.throwIfAborted();
    return spawnFor(part, part.command());
  }

  /** @returns undefined as soon as the part is ready; otherwise why it is not */
  async function awaitReady(child: Child, check: ReadinessCheck, deadlineMs: number): Promise<string | undefined> {
    let end: string | undefined;
    const ended = child.ended.then(({ text }) => {
      end = text;
    });
    for (;;) {
      const missing = await check();
      if (end !== undefined) return end;
      if (missing === undefined) return undefined;
      if (Date.now() > deadlineMs) return `not ready in time: ${missing}`;
      await Promise.race([ended, sleep(READY_POLL_MS)]);
    }
  }

  async function runTask(part: Part): Promise<void> {
    const child = await launch(part);
    const late = sleep(part.readyWithinMs, undefined, { ref: false }).then(() => ({ code: null, text: "too slow" }));
    const { code, text } = await Promise.race([child.ended, late]);
    if (code !== 0) throw failure(part, text);
    record(part, ({ process: _, ...known }) => ({ ...known, state: "done" }));
  }

  /** The life of a server or service; `onReady` and `onFailure` tell about its first start. */
  async function keepRunning(
    part: Part,
    check: ReadinessCheck,
    onReady: () => void,
    onFailure: (problem: Problem) => void,
  ): Promise<void> {
    const firstDeadlineMs = Date.now() + part.readyWithinMs;
    let wasReady = false;
    let failures = 0;
    for (let attempt = 1; !stopping.signal.aborted; attempt += 1) {
      const launchedMs = Date.now();
      let reason: string;
      try {
        const child = await launch(part);
        // Later starts have no deadline: killing a server that recovers from a crash would only begin it again.
        const missing = await awaitReady(child, check, wasReady ? Number.POSITIVE_INFINITY : firstDeadlineMs);
        if (missing === undefined) {
          await part.whenReady?.();
          // Said before it is written down: who waits for the state finds the line in the log.
          if (wasReady) say(`${part.name} is ready again`);
          record(part, (known) => ({ ...known, state: "ready" }));
          wasReady = true;
          onReady();
        }
        reason = missing ?? (await child.ended).text;
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
      if (stopping.signal.aborted) return;
      if (!wasReady && (attempt >= FIRST_START_ATTEMPTS_MAX || Date.now() > firstDeadlineMs)) {
        onFailure(failure(part, reason));
        return;
      }
      failures = Date.now() - launchedMs > HEALTHY_AFTER_MS ? 1 : failures + 1;
      const delayMs = backOffMs(failures);
      record(part, ({ process: _, ...known }) => ({ ...known, state: "restarting", restarts: known.restarts + 1 }));
      say(`${part.name} ended (${reason}): starting it again in ${delayMs / 1000} s`);
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  function failure(part: Part, reason: string): Problem {
    const log = logFile(stack, part.name);
    return new Problem(
      `${lastLines(log, FAILURE_LOG_LINES)}\n\n${part.name} could not be started: ${reason}. All of its output: ${log}`,
    );
  }

  async function startPart(part: Part, needed: readonly Promise<void>[]): Promise<void> {
    await Promise.all(needed);
    stopping.signal.throwIfAborted();
    const startedMs = performance.now();
    const { check } = part;
    if (check === undefined) await runTask(part);
    else {
      await new Promise<void>((resolve, reject) => {
        stopping.signal.addEventListener("abort", () => reject(new Problem("The start was interrupted.")));
        loops.push(keepRunning(part, check, resolve, reject));
      });
    }
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(5);
    say(`  ready in ${seconds} s  ${part.name}`);
  }

  return {
    async start() {
      save();
      const ready = new Map<string, Promise<void>>();
      for (const part of parts) {
        const needed = part.after.flatMap((name) => ready.get(name) ?? []);
        ready.set(part.name, startPart(part, needed));
      }
      await Promise.all(ready.values());
      phase = "running";
      save();
    },
    async stop() {
      stopping.abort();
      phase = "stopping";
      save();
      await inStopOrder(parts, async (part) => {
        const child = children.get(part.name);
        if (child === undefined || !isAlive(child.identity)) return;
        const obeyed = await endProcess(child.identity, part.stopSignal, part.stopWithinMs);
        if (!obeyed) say(`${part.name} did not stop in ${part.stopWithinMs / 1000} s and was killed`);
      });
      await Promise.all(loops);
      removeState(stack);
    },
  };
}
