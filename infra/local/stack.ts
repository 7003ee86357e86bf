import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lockFile, logFile, logFolder } from "#infra/local/folders.ts";
import { lockHolder, releaseLock, tryLock } from "#infra/local/lock.mjs";
import type { PartName } from "#infra/local/parts.ts";
import { root } from "#infra/local/paths.mjs";
import type { StackName } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { signalProcess, waitForEnd } from "#infra/local/processes.mjs";
import { endLeftovers, readState } from "#infra/local/state.ts";

/**
 * What tests, benches and the command line need to know of a stack. A stack belongs to the checkout, not to the process
 * that started it: it runs until somebody stops it.
 */
export { type Endpoints, endpoints } from "#infra/local/endpoints.ts";
export type { PartName } from "#infra/local/parts.ts";
export type { StackName } from "#infra/local/ports.ts";
export { readStatus } from "#infra/local/status.ts";

/** Stopping takes its parts' own bounds, one order after the other; this is more than their sum. */
const STOP_TIMEOUT_MS = 120_000;
const POLL_MS = 50;

export interface StartOptions {
  readonly without?: readonly PartName[];
  /** Wipes the data of this stack first. */
  readonly fresh?: boolean;
  /** Gets every line of progress. */
  readonly onLine?: (line: string) => void;
}

/**
 * Starts a stack in the background and returns when all of it is ready.
 * @returns "already_running" when somebody else started it: then the options had no effect
 * Throws a Problem that says why when it cannot be started; then nothing is left running.
 */
export async function startStack(stack: StackName, options: StartOptions = {}): Promise<"started" | "already_running"> {
  const onLine = options.onLine ?? (() => {});
  if (lockHolder(lockFile(stack)) !== undefined) {
    await waitUntilRunning(stack);
    return "already_running";
  }

  mkdirSync(logFolder(stack), { recursive: true });
  const log = openSync(logFile(stack, "supervisor"), "a");
  const args = ["up", "--stack", stack];
  if (options.without !== undefined && options.without.length > 0) args.push("--without", options.without.join(","));
  if (options.fresh === true) args.push("--fresh");
  const supervisor = spawn(process.execPath, [join(root, "infra", "local", "main.ts"), ...args], {
    cwd: root,
    stdio: ["ignore", log, log, "ipc"],
    detached: true,
  });
  closeSync(log);

  // A Ctrl-C during the start stops what was started.
  const interrupt = () => supervisor.kill("SIGTERM");
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  let failure = `The launcher ended without a word. See ${logFile(stack, "supervisor")}`;
  try {
    await new Promise<void>((resolve, reject) => {
      supervisor.on("message", (message: SupervisorMessage) => {
        if (message === "ready") return resolve();
        if ("failure" in message) failure = message.failure;
        else onLine(message.line);
      });
      supervisor.once("error", reject);
      // "close" comes after the last message, "exit" may come before it.
      supervisor.once("close", () => reject(new Problem(failure)));
    });
    return "started";
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    if (supervisor.connected) supervisor.disconnect();
    supervisor.unref();
  }
}

/** What a detached supervisor tells its starter. */
export type SupervisorMessage = "ready" | { readonly line: string } | { readonly failure: string };

async function waitUntilRunning(stack: StackName): Promise<void> {
  while (lockHolder(lockFile(stack)) !== undefined) {
    if (readState(stack)?.phase === "running") return;
    await sleep(POLL_MS);
  }
  throw new Problem(`The stack ${stack} was being started or stopped by another process, and ended.`);
}

/**
 * Stops a stack in order, or ends what a killed supervisor left running.
 * @returns what there was to do
 */
export async function stopStack(stack: StackName): Promise<"stopped" | "leftovers_ended" | "not_running"> {
  const supervisor = lockHolder(lockFile(stack));
  let stopped = false;
  if (supervisor !== undefined) {
    signalProcess(supervisor, "SIGTERM");
    stopped = await waitForEnd(supervisor, STOP_TIMEOUT_MS);
    if (!stopped) {
      signalProcess(supervisor, "SIGKILL");
      await waitForEnd(supervisor, POLL_MS);
    }
  }
  const other = tryLock(lockFile(stack));
  if (other !== undefined) throw new Problem(`Process ${other.pid} started the stack ${stack} again meanwhile.`);
  try {
    const left = await endLeftovers(stack);
    if (left.length > 0) return "leftovers_ended";
    return stopped ? "stopped" : "not_running";
  } finally {
    releaseLock(lockFile(stack));
  }
}
