import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensureCertificates } from "#infra/local/certificates.ts";
import { ensureDevelopmentKey } from "#infra/local/development-key.ts";
import { endpoints } from "#infra/local/endpoints.ts";
import { lockFile, logFile, logFolder, runFolder, stackFolder } from "#infra/local/folders.ts";
import { releaseLock, tryLock } from "#infra/local/lock.mjs";
import { rotateLogs } from "#infra/local/log-rotation.ts";
import { availableMemoryBytes, freeDiskBytes, shortages } from "#infra/local/machine.mjs";
import { makeCommand } from "#infra/local/make-command.ts";
import { type Part, type PartName, partsOf } from "#infra/local/parts.ts";
import { root } from "#infra/local/paths.mjs";
import { takenPorts } from "#infra/local/port-check.ts";
import { portsOf, type StackName, shardCountOf } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { ensureSecrets } from "#infra/local/secrets.ts";
import { endLeftovers } from "#infra/local/state.ts";
import { createSupervisor } from "#infra/local/supervisor.ts";
import { certificatesFolder } from "#infra/local/tls-files.ts";

const MIB = 1024 ** 2;
/** What all parts together take while they start and begin to work: the shards, and all others. */
const MEMORY_MIN_BYTES_PER_SHARD = 128 * MIB;
const MEMORY_MIN_BYTES_OTHERS = 1792 * MIB;
/** Elasticsearch and Postgres misbehave on a full disk; this leaves room for a while of work. */
const DISK_MIN_BYTES_PER_SHARD = 256 * MIB;
const DISK_MIN_BYTES_OTHERS = 512 * MIB;

const RENEWAL_INTERVAL_MS = 86_400_000;

export interface UpOptions {
  readonly without: readonly PartName[];
  readonly fresh: boolean;
  readonly say: (line: string) => void;
  readonly onReady: () => void;
}

/**
 * Starts a stack and keeps it running until SIGINT, SIGTERM or SIGHUP; then stops it in order.
 * Throws a Problem when it cannot be started; then nothing is left running.
 */
export async function up(stack: StackName, options: UpOptions): Promise<void> {
  const startedMs = performance.now();
  const holder = tryLock(lockFile(stack));
  if (holder !== undefined) {
    throw new Problem(
      `The stack ${stack} already runs (process ${holder.pid}). Mend it: stop it first: ${makeCommand("stop", stack)}`,
    );
  }
  // From here on a signal ends the start, not the process.
  const stopAsked = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
  try {
    const left = await endLeftovers(stack);
    if (left.length > 0) options.say(`Ended what a killed launcher had left running: ${left.join(", ")}.`);
    if (options.fresh) wipe(stack);
    mkdirSync(logFolder(stack), { recursive: true });
    ensureSecrets(stack);
    await ensureCertificates(certificatesFolder(stack));
    ensureDevelopmentKey(stack);
    const parts = partsOf(stack, options.without);
    await checkMachine(stack, parts);

    const supervisor = createSupervisor(stack, parts, options.say);
    const rotation = rotateLogs(stack);
    const renewal = setInterval(() => void renewCertificates(stack, options.say), RENEWAL_INTERVAL_MS);
    let ready = false;
    try {
      options.say(`Starting the stack ${stack}.`);
      ready = await Promise.race([supervisor.start().then(() => true), stopAsked.then(() => false)]);
      if (ready) {
        const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
        options.say(readyText(stack, parts, seconds));
        options.onReady();
        await stopAsked;
      }
      options.say(`Stopping the stack ${stack}.`);
    } finally {
      await supervisor.stop();
      clearInterval(rotation);
      clearInterval(renewal);
    }
    if (!ready) throw new Problem("The start was interrupted: everything is stopped again.");
    options.say(`The stack ${stack} is stopped.`);
  } finally {
    releaseLock(lockFile(stack));
  }
}

/** A stack may run for longer than its certificates last; every process reads them again by itself. */
async function renewCertificates(stack: StackName, say: (line: string) => void): Promise<void> {
  try {
    await ensureCertificates(certificatesFolder(stack));
  } catch (error) {
    say(`The certificates could not be renewed: ${error instanceof Error ? error.message : error}`);
  }
}

async function checkMachine(stack: StackName, parts: readonly Part[]): Promise<void> {
  const available = { memoryBytes: availableMemoryBytes(), diskBytes: freeDiskBytes(root) };
  const shards = shardCountOf(stack);
  const needed = {
    memoryBytes: MEMORY_MIN_BYTES_OTHERS + shards * MEMORY_MIN_BYTES_PER_SHARD,
    diskBytes: DISK_MIN_BYTES_OTHERS + shards * DISK_MIN_BYTES_PER_SHARD,
  };
  const problems = [...(await takenPorts(parts, portsOf(stack))), ...shortages(available, needed, root)];
  if (problems.length > 0) throw new Problem(problems.join("\n"));
}

/** Removes data, logs and secrets of a stack; its lock stays with its holder. */
export function wipe(stack: StackName): void {
  mkdirSync(stackFolder(stack), { recursive: true });
  for (const name of readdirSync(stackFolder(stack))) {
    const path = join(stackFolder(stack), name);
    // The log of the detached supervisor that is doing this lies there.
    if (path !== runFolder(stack) && path !== logFolder(stack)) rmSync(path, { recursive: true, force: true });
  }
}

function readyText(stack: StackName, parts: readonly Part[], seconds: string): string {
  const lines = [`Ready in ${seconds} s.`];
  const next = ["status", "logs", "stop"].map((target) => makeCommand(target, stack)).join(", ");
  if (parts.some((part) => part.name === "gateway")) lines.push(`REST: ${endpoints(stack).gateway}`);
  lines.push("", `Next: ${stack === "dev" ? "make demo, " : ""}${next}`);
  lines.push(`Logs: ${logFile(stack, "*")}`);
  return lines.join("\n");
}
