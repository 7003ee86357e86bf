import { readFileSync } from "node:fs";
import { processTree } from "#infra/local/processes.mjs";
import { readState } from "#infra/local/state.ts";

/** Who took the processors during a measurement: on a small machine that explains most figures. */

/**
 * Fields 14 to 17 of /proc/PID/stat: user and system time of the process, then of its children that have ended. Postgres
 * has a process per connection. Counted from the state, which is field 3.
 */
const FIRST_TIME_AFTER_STATE = 11;
const TIME_FIELDS = 4;
/** The times of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal. */
const IDLE_TIMES = [3, 4];
const MACHINE_TIME_FIELDS = 8;
/** Linux shows times in these on every architecture that matters here (USER_HZ). */
const TICKS_PER_SECOND = 100;
const BENCH = "bench and load client";
const OTHERS = "others";

/** Further processes of ours, by their names. */
const further = new Map<string, number>();

/** From now on a process that no part of the stack started has a name of its own among those who used the processors. */
export function watchProcess(name: string, pid: number): void {
  further.set(name, pid);
}

/** CPU seconds used so far, by part of the stack, by the bench itself, and by everything else on the machine. */
export type CpuSeconds = ReadonlyMap<string, number>;

export function readCpuSeconds(): CpuSeconds {
  const seconds = new Map<string, number>();
  for (const { name, process } of readState("bench")?.parts ?? []) {
    if (process !== undefined) {
      seconds.set(
        name,
        processTree(process.pid).reduce((sum, pid) => sum + cpuSecondsOf(pid), 0),
      );
    }
  }
  for (const [name, pid] of further) seconds.set(name, cpuSecondsOf(pid));
  seconds.set(BENCH, cpuSecondsOf(process.pid));
  const known = [...seconds.values()].reduce((sum, value) => sum + value, 0);
  return seconds.set(OTHERS, busySeconds() - known);
}

export type ProcessorsUsed = readonly (readonly [name: string, processors: number])[];

/** Processors in use between two readings, by who used them; who hardly did is left out. */
export function processorsUsed(
  before: CpuSeconds,
  after: CpuSeconds,
  ms: number,
): [name: string, processors: number][] {
  return [...after]
    .map(([name, seconds]): [string, number] => [name, ((seconds - (before.get(name) ?? 0)) * 1000) / ms])
    .filter(([, processors]) => processors >= 0.01)
    .sort(([, a], [, b]) => b - a);
}

/** Processors that were taken by what does not belong to the bench, steal by other virtual machines included. */
export function processorsOfOthers(used: ProcessorsUsed): number {
  return used.find(([name]) => name === OTHERS)?.[1] ?? 0;
}

/** Of the whole machine. */
function busySeconds(): number {
  const [, ...times] = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").split(/\s+/);
  const busy = times.slice(0, MACHINE_TIME_FIELDS).filter((_, index) => !IDLE_TIMES.includes(index));
  return busy.reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

/** Of one process, user and system. */
export function cpuSecondsOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const times = fields.slice(FIRST_TIME_AFTER_STATE, FIRST_TIME_AFTER_STATE + TIME_FIELDS);
    return times.reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
  } catch {
    // It ended between the two looks.
    return 0;
  }
}
