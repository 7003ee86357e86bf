import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { identify, isAlive } from "#infra/local/processes.mjs";

/**
 * A lock file holds the identity of its process, so that the lock of a killed process is known to be stale.
 * It is made by link(2), complete or not at all.
 * @typedef {import("#infra/local/processes.mjs").ProcessIdentity} ProcessIdentity
 */

const POLL_MS = 100;
const TAKEOVER_ATTEMPTS_MAX = 10;

/**
 * @param {string} file
 * @returns {ProcessIdentity | undefined} who holds the lock and still runs
 */
export function lockHolder(file) {
  try {
    const holder = /** @type {ProcessIdentity} */ (JSON.parse(readFileSync(file, "utf8")));
    return isAlive(holder) ? holder : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Takes the lock for this process, also from a holder that is gone.
 * @param {string} file
 * @returns {ProcessIdentity | undefined} undefined: taken; otherwise who holds it
 */
export function tryLock(file) {
  mkdirSync(dirname(file), { recursive: true });
  const own = `${file}.${process.pid}`;
  writeFileSync(own, JSON.stringify(identify(process.pid)));
  try {
    for (let attempt = 0; attempt < TAKEOVER_ATTEMPTS_MAX; attempt += 1) {
      try {
        linkSync(own, file);
        return undefined;
      } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EEXIST") throw error;
      }
      const holder = lockHolder(file);
      if (holder !== undefined) return holder;
      putAside(file, `${own}.stale`);
    }
    throw new Error(`could not take the lock ${file}: remove it when nothing runs`);
  } finally {
    rmSync(own, { force: true });
  }
}

/**
 * Moves a stale lock away. Between the look and the move another process may have done the same and locked: then what was
 * moved is a live lock, and goes back.
 * @param {string} file
 * @param {string} aside
 */
function putAside(file, aside) {
  try {
    renameSync(file, aside);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return;
    throw error;
  }
  if (lockHolder(aside) !== undefined) linkSync(aside, file);
  rmSync(aside, { force: true });
}

/**
 * Waits for the lock and takes it.
 * @param {string} file
 * @param {number} timeoutMs
 * @param {(holder: ProcessIdentity) => void} onWait called once, when somebody holds it
 */
export async function waitForLock(file, timeoutMs, onWait) {
  const deadline = Date.now() + timeoutMs;
  let told = false;
  for (;;) {
    const holder = tryLock(file);
    if (holder === undefined) return;
    if (!told) onWait(holder);
    told = true;
    if (Date.now() > deadline) throw new Error(`process ${holder.pid} holds ${file} for too long`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** @param {string} file */
export function releaseLock(file) {
  if (lockHolder(file)?.pid === process.pid) rmSync(file, { force: true });
}
