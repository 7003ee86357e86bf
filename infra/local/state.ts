import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { endProcess } from "#infra/local/end-process.ts";
import { runFolder, stateFile } from "#infra/local/folders.ts";
import type { StackName } from "#infra/local/ports.ts";
import { isAlive, type ProcessIdentity } from "#infra/local/processes.mjs";

/** `done` is a task that ended well; `waiting` needs another part first. */
export type PartState = "waiting" | "starting" | "ready" | "restarting" | "done" | "stopped";

export interface PartRecord {
  readonly name: string;
  readonly state: PartState;
  readonly process?: ProcessIdentity;
  readonly ports: Readonly<Record<string, number>>;
  readonly restarts: number;
  /** Start of the present process, ISO 8601. */
  readonly startedAt?: string;
  /** What is needed to end the process when its supervisor was killed. */
  readonly stopSignal: NodeJS.Signals;
  readonly stopWithinMs: number;
  readonly stopOrder: number;
}

/** What the supervisor writes down at every change, for `status`, and for those who come after a kill -9. */
export interface StackState {
  readonly stack: StackName;
  readonly phase: "starting" | "running" | "stopping";
  readonly supervisor: ProcessIdentity;
  readonly startedAt: string;
  readonly parts: readonly PartRecord[];
}

export function writeState(state: StackState): void {
  mkdirSync(runFolder(state.stack), { recursive: true });
  const file = stateFile(state.stack);
  writeFileSync(`${file}.new`, JSON.stringify(state, undefined, 1));
  renameSync(`${file}.new`, file);
}

export function removeState(stack: StackName): void {
  rmSync(stateFile(stack), { force: true });
}

/** Undefined when nothing was written down: the stack was stopped in order, or never started. */
export function readState(stack: StackName): StackState | undefined {
  let text: string;
  try {
    text = readFileSync(stateFile(stack), "utf8");
  } catch {
    return undefined;
  }
  return JSON.parse(text) as StackState;
}

/**
 * Ends the processes of a killed supervisor, in the order of a stop, and forgets them. A pid that meanwhile belongs to
 * another process is left alone. Only for the holder of the stack's lock.
 * @returns the names of the parts that were still running
 */
export async function endLeftovers(stack: StackName): Promise<string[]> {
  const state = readState(stack);
  if (state === undefined) return [];
  const left = state.parts.flatMap((part) =>
    part.process !== undefined && isAlive(part.process) ? [{ ...part, process: part.process }] : [],
  );
  await inStopOrder(left, (part) => endProcess(part.process, part.stopSignal, part.stopWithinMs));
  removeState(stack);
  return left.map((part) => part.name);
}

/** Does the work for all parts: those of the lowest stopOrder first, side by side, then the next ones. */
export async function inStopOrder<T extends { readonly stopOrder: number }>(
  parts: readonly T[],
  work: (part: T) => Promise<unknown>,
): Promise<void> {
  for (const order of [...new Set(parts.map((part) => part.stopOrder))].sort((a, b) => a - b)) {
    await Promise.all(parts.filter((part) => part.stopOrder === order).map(work));
  }
}
