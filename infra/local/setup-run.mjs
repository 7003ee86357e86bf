import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { environment } from "#infra/local/config.mjs";
import { releaseLock, waitForLock } from "#infra/local/lock.mjs";
import { availableMemoryBytes, freeDiskBytes, shortages } from "#infra/local/machine.mjs";
import { notPermitted } from "#infra/local/not-permitted.mjs";
import { root, toolsFolder } from "#infra/local/paths.mjs";
import { choosePostgresUser, POSTGRES_USER_REMEDY } from "#infra/local/postgres-user.mjs";
import { missingTools, wrongMachine } from "#infra/local/prerequisites.mjs";
import { createProgress } from "#infra/local/setup-progress.mjs";
import { steps } from "#infra/local/setup-steps.mjs";
import { endLeftoverTools, endTools, SetupError } from "#infra/local/setup-tools.mjs";

/** @typedef {import("#infra/local/setup-steps.mjs").Step} Step */

/** What a complete set-up and the data of a first try take. */
const DISK_MIN_BYTES = 3 * 1024 ** 3;
/** npm, pip, Maven and buf side by side. */
const MEMORY_MIN_BYTES = 1 * 1024 ** 3;
/** The unit of stat, whatever the disk's own blocks are. */
const BYTES_PER_BLOCK = 512;
/** As long as the slowest set-up that another process may be in. */
const LOCK_TIMEOUT_MS = 15 * 60_000;
const lockFile = join(toolsFolder, "setup.lock");

/** @param {string} name */
const stampFile = (name) => join(toolsFolder, `${name}.stamp`);

/** A hash over the content of a step's inputs. @param {Step} step */
function inputHash(step) {
  const hash = createHash("sha256");
  for (const input of step.inputs) {
    const folder = statSync(input, { throwIfNoEntry: false })?.isDirectory() ?? false;
    const files = folder ? readdirSync(input, { recursive: true, encoding: "utf8" }).sort() : [""];
    for (const file of files) {
      const path = join(input, file);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined)
        throw new SetupError(`${path} is missing. Mend the checkout: git status shows what changed.`);
      if (!stat.isFile()) continue;
      const content = readFileSync(path);
      hash.update(`${path.slice(root.length)} ${content.length}\n`).update(content);
    }
  }
  return hash.digest("hex");
}

/** @param {Step} step */
function isDone(step) {
  try {
    return readFileSync(stampFile(step.name), "utf8") === inputHash(step) && step.results().every(existsSync);
  } catch (error) {
    if (error instanceof SetupError) throw error;
    return false;
  }
}

/** What all files below a folder take on the disk; 0 when it is not there. @param {string} folder @returns {number} */
function bytesBelow(folder) {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) bytes += bytesBelow(path);
      else if (entry.isFile()) bytes += statSync(path).blocks * BYTES_PER_BLOCK;
    }
  } catch {
    // Not there yet, or just moved: it is counted the next time.
  }
  return bytes;
}

/** Fails with one line for each thing that is missing for these steps. @param {Step[]} due */
function checkMachine(due) {
  const wrong = wrongMachine(process.platform, process.arch);
  if (wrong !== undefined) throw new SetupError(wrong);
  const lines = missingTools(environment, [...new Set(due.flatMap((step) => step.tools))]);
  const available = { memoryBytes: availableMemoryBytes(), diskBytes: freeDiskBytes(root) };
  lines.push(...shortages(available, { memoryBytes: MEMORY_MIN_BYTES, diskBytes: DISK_MIN_BYTES }, root));
  if (lines.length > 0) throw new SetupError(lines.join("\n"));
}

/**
 * Runs the steps that are due, side by side as far as they do not need each other.
 * @param {Step[]} due
 * @param {ReturnType<typeof createProgress>} progress
 */
async function runSteps(due, progress) {
  /** @type {Map<string, Promise<void>>} */
  const results = new Map();
  const finished = (/** @type {string} */ name) => results.get(name) ?? Promise.resolve();
  for (const step of due) {
    const hash = inputHash(step);
    const startedMs = performance.now();
    rmSync(stampFile(step.name), { force: true });
    const arrivedBytes = () => step.arrivesIn.reduce((sum, folder) => sum + bytesBelow(folder), 0);
    if (step.expectedBytes > 0) progress.begin({ name: step.name, expectedBytes: step.expectedBytes, arrivedBytes });
    const work = step.run(finished).then(async () => {
      for (const other of step.after) await finished(other);
      writeFileSync(`${stampFile(step.name)}.new`, hash);
      renameSync(`${stampFile(step.name)}.new`, stampFile(step.name));
      progress.end(step.name);
      progress.say(`  done in ${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s  ${step.title}`);
    });
    results.set(step.name, work);
  }
  try {
    await Promise.all(results.values());
  } catch (error) {
    await endTools();
    await Promise.allSettled(results.values());
    throw error;
  }
}

/** @param {string[]} args `--generate` makes the generated code anew in any case; `--quiet` says nothing when all is done; `--tests` with what only tests need */
export async function main(args) {
  const startedMs = performance.now();
  const progress = createProgress(process.stdout);
  let interrupted = false;
  let locked = false;
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]))
    process.on(signal, () => {
      interrupted = true;
      if (!locked) process.exit(1);
      void endTools();
    });
  try {
    mkdirSync(toolsFolder, { recursive: true });
    await waitForLock(lockFile, LOCK_TIMEOUT_MS, (holder) =>
      progress.say(`Waiting for another set-up of this checkout (process ${holder.pid}).`),
    );
    locked = true;
    await endLeftoverTools();
    if (args.includes("--generate")) rmSync(stampFile("generate"), { force: true });
    const wanted = steps.filter(({ forTestsOnly }) => forTestsOnly !== true || args.includes("--tests"));
    const due = wanted.filter((step) => !isDone(step));
    if (due.length > 0) {
      checkMachine(due);
      const megabytes = due.reduce((sum, step) => sum + step.expectedBytes, 0) / 1_000_000;
      progress.say(megabytes > 0 ? `Setting up (once): about ${megabytes} MB on the disk.` : "Setting up.");
      await runSteps(due, progress);
      if (interrupted) throw new SetupError("The set-up was interrupted.");
    }
    if (process.getuid?.() === 0 && choosePostgresUser() === "impossible") throw new SetupError(POSTGRES_USER_REMEDY);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    if (due.length > 0 || !args.includes("--quiet")) progress.say(`Set up in ${seconds} s.`);
  } catch (error) {
    progress.close();
    if (interrupted) console.error("Set-up interrupted. Run the same command again: it goes on.");
    else if (error instanceof SetupError) console.error(error.message);
    else console.error((error instanceof Error && notPermitted(error)) || `The set-up failed: ${error}`);
    process.exitCode = 1;
  } finally {
    progress.close();
    releaseLock(lockFile);
  }
}
