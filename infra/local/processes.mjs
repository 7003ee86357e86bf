import { readdirSync, readFileSync } from "node:fs";

/**
 * Which process is meant. A pid alone is used again after a while; with its start time (field 22 of /proc/PID/stat, in
 * clock ticks since boot) it names one process, until the next boot: then the boot id differs.
 * @typedef {{ readonly pid: number, readonly startTime: string, readonly boot: string }} ProcessIdentity
 */

const STAT_STATE_FIELD = 3;
const STAT_PARENT_FIELD = 4;
const STAT_START_TIME_FIELD = 22;

/**
 * The fields of /proc/PID/stat by their number in proc(5), or undefined when there is no such process.
 * @param {number} pid
 * @returns {((field: number) => string) | undefined}
 */
function readStat(pid) {
  let text;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // Field 2 is the name in brackets and may hold blanks and brackets itself: fields are counted from its end.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (number) => fields[number - 3] ?? "";
}

/** Changes with every boot. */
export function bootId() {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/**
 * @param {number} pid
 * @returns {ProcessIdentity | undefined} undefined when there is no such process
 */
export function identify(pid) {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat(STAT_START_TIME_FIELD), boot: bootId() };
}

/**
 * True while exactly this process runs; a zombie does not.
 * @param {ProcessIdentity} identity
 */
export function isAlive(identity) {
  const stat = readStat(identity.pid);
  if (stat === undefined || stat(STAT_STATE_FIELD) === "Z") return false;
  return stat(STAT_START_TIME_FIELD) === identity.startTime && bootId() === identity.boot;
}

/**
 * Sends a signal to exactly this process, or to the group it leads. A process that is gone is no error.
 * @param {ProcessIdentity} identity
 * @param {NodeJS.Signals} signal
 * @param {"process" | "group"} [target]
 */
export function signalProcess(identity, signal, target = "process") {
  if (!isAlive(identity)) return;
  try {
    process.kill(target === "group" ? -identity.pid : identity.pid, signal);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== "ESRCH") throw error;
  }
}

/**
 * Waits until the process is gone.
 * @param {ProcessIdentity} identity
 * @param {number} timeoutMs
 * @returns {Promise<boolean>} false when it still runs at the end of the time
 */
export async function waitForEnd(identity, timeoutMs) {
  const POLL_MS = 20;
  const deadline = Date.now() + timeoutMs;
  while (isAlive(identity)) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}

/**
 * The pids of a process and of all its descendants.
 * @param {number} pid
 */
export function processTree(pid) {
  /** @type {Map<number, number[]>} */
  const children = new Map();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(readStat(Number(name))?.(STAT_PARENT_FIELD) ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree = [pid];
  for (const member of tree) tree.push(...(children.get(member) ?? []));
  return tree;
}
