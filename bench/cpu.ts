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
/** Linux shows times in these on every architecture that matters here (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** CPU seconds used so far, by part of the stack. */
export function readCpuSeconds(): Map<string, number> {
  const parts = readState("bench")?.parts ?? [];
  return new Map(
    parts.flatMap(({ name, process }) =>
      process === undefined ? [] : [[name, processTree(process.pid).reduce((sum, pid) => sum + cpuSecondsOf(pid), 0)]],
    ),
  );
}

/** Processors in use between two readings, such as "ledger 0.93, postgres-1 0.61"; parts that hardly worked are left out. */
export function describeCpu(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
  ms: number,
): string {
  return [...after]
    .map(([name, seconds]) => ({ name, used: ((seconds - (before.get(name) ?? 0)) * 1000) / ms }))
    .filter(({ used }) => used >= 0.01)
    .sort((a, b) => b.used - a.used)
    .map(({ name, used }) => `${name} ${used.toFixed(2)}`)
    .join(", ");
}

function cpuSecondsOf(pid: number): number {
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
