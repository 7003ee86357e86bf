import { readFileSync, statfsSync } from "node:fs";

/** What the machine has left, for the checks before anything is fetched or started. */

/** Bytes that processes may still take: of the machine, or of the control group (container) when that allows less. */
export function availableMemoryBytes() {
  const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return Math.min(Number(kilobytes) * 1024, controlGroupMemoryBytes());
}

function controlGroupMemoryBytes() {
  try {
    const limit = readFileSync("/sys/fs/cgroup/memory.max", "utf8").trim();
    const used = readFileSync("/sys/fs/cgroup/memory.current", "utf8").trim();
    const cache = /^inactive_file (\d+)$/m.exec(readFileSync("/sys/fs/cgroup/memory.stat", "utf8"))?.[1] ?? "0";
    return limit === "max" ? Number.POSITIVE_INFINITY : Number(limit) - Number(used) + Number(cache);
  } catch {
    // No such control group: the machine's own figure holds.
    return Number.POSITIVE_INFINITY;
  }
}

/**
 * Bytes that an ordinary user may still write to the disk of this folder.
 * @param {string} folder
 */
export function freeDiskBytes(folder) {
  const disk = statfsSync(folder);
  return disk.bavail * disk.bsize;
}

const GIB = 1024 ** 3;

/**
 * One line for each thing that the machine has too little of.
 * @param {{ memoryBytes: number, diskBytes: number }} available
 * @param {{ memoryBytes: number, diskBytes: number }} needed
 * @param {string} folder
 */
export function shortages(available, needed, folder) {
  /** @param {number} bytes */
  const gib = (bytes) => `${(bytes / GIB).toFixed(1)} GiB`;
  const lines = [];
  if (available.memoryBytes < needed.memoryBytes)
    lines.push(
      `Too little memory: ${gib(available.memoryBytes)} available, ${gib(needed.memoryBytes)} needed. Mend it: end other programs, or give the machine more memory.`,
    );
  if (available.diskBytes < needed.diskBytes)
    lines.push(
      `Too little disk space: ${gib(available.diskBytes)} free at ${folder}, ${gib(needed.diskBytes)} needed. Mend it: free some space, or move the checkout to a larger disk.`,
    );
  return lines;
}
