import { readFileSync } from "node:fs";
import { processTree } from "#infra/local/processes.mjs";
import { readState } from "#infra/local/state.ts";

const BYTES_PER_KB = 1024;

export interface Memory {
  /** Proportional. */
  readonly byPart: readonly { readonly name: string; readonly bytes: number }[];
  /** A page that n processes share counts as one nth in each (PSS): what the stack really takes. */
  readonly proportionalBytes: number;
  /** A shared page counts in each (RSS): Postgres' buffers count once per connection. */
  readonly residentBytes: number;
}

/** The memory of all processes of the stack, its launcher included. */
export function measureMemory(): Memory {
  const state = readState("bench");
  if (state === undefined) throw new Error("the stack does not run");
  const parts = [{ name: "launcher", process: state.supervisor }, ...state.parts];
  const measured = parts.flatMap(({ name, process }) => {
    if (process === undefined) return [];
    // The launcher is the parent of all other parts.
    const pids = name === "launcher" ? [process.pid] : processTree(process.pid);
    return [{ name, bytes: sumOf(pids, "Pss"), residentBytes: sumOf(pids, "Rss") }];
  });
  return {
    byPart: measured.map(({ name, bytes }) => ({ name, bytes })),
    proportionalBytes: measured.reduce((sum, { bytes }) => sum + bytes, 0),
    residentBytes: measured.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
  };
}

function sumOf(pids: readonly number[], field: "Pss" | "Rss"): number {
  return pids.reduce((sum, pid) => sum + memoryOf(pid, field), 0);
}

function memoryOf(pid: number, field: "Pss" | "Rss"): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) * BYTES_PER_KB;
  } catch {
    // It ended between the two looks.
    return 0;
  }
}
