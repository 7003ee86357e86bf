import { readFileSync } from "node:fs";
import type { Row } from "#bench/table.ts";
import { processTree } from "#infra/local/processes.mjs";
import { readState } from "#infra/local/state.ts";

const BYTES_PER_KB = 1024;
const MB = 1_000_000;
const LEDGER_MAX_BYTES = 300 * MB;

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

/** What the ledger process took at most since it started, under all the load that it was given. */
export function ledgerMemoryRow(): Row {
  const bytes = ledgerPeakBytes();
  return {
    workload: "memory of the ledger process, the most it had resident",
    figure: `${Math.round(bytes / MB)} MB`,
    bound: `<= ${LEDGER_MAX_BYTES / MB} MB`,
    met: bytes <= LEDGER_MAX_BYTES,
  };
}

/** The most that the ledger process ever had resident, by the kernel's own count (VmHWM): no sample can miss it. */
export function ledgerPeakBytes(): number {
  const ledger = readState("bench")?.parts.find(({ name }) => name === "ledger")?.process;
  if (ledger === undefined) throw new Error("the ledger does not run");
  return readKilobytes(`/proc/${ledger.pid}/status`, "VmHWM");
}

function sumOf(pids: readonly number[], field: "Pss" | "Rss"): number {
  return pids.reduce((sum, pid) => sum + memoryOf(pid, field), 0);
}

function memoryOf(pid: number, field: "Pss" | "Rss"): number {
  try {
    return readKilobytes(`/proc/${pid}/smaps_rollup`, field);
  } catch {
    // It ended between the two looks.
    return 0;
  }
}

/** A line such as `Pss:  1234 kB`, in bytes. */
function readKilobytes(file: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(file, "utf8"))?.[1];
  if (found === undefined) throw new Error(`${file} has no ${field}`);
  return Number(found) * BYTES_PER_KB;
}
