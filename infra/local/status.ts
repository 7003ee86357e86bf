import { readFileSync } from "node:fs";
import { lockFile } from "#infra/local/folders.ts";
import { lockHolder } from "#infra/local/lock.mjs";
import { type PartName, partNamesOf, partsOf } from "#infra/local/parts.ts";
import type { StackName } from "#infra/local/ports.ts";
import { isAlive, processTree } from "#infra/local/processes.mjs";
import { type PartRecord, readState } from "#infra/local/state.ts";

export interface PartStatus {
  readonly name: string;
  /** `not ready`: it runs but does not do its work; `reason` says what it lacks. `dead`: left behind by a killed supervisor. */
  readonly state: PartRecord["state"] | "not ready" | "dead";
  readonly reason?: string;
  readonly pid?: number;
  readonly ports: Readonly<Record<string, number>>;
  readonly uptimeSeconds?: number;
  readonly restarts: number;
  /** With all its descendants; memory shared by several is counted once (proportional set size). */
  readonly memoryBytes: number;
}

export interface StackStatus {
  readonly stack: StackName;
  /** `orphaned`: the supervisor was killed, and parts of it may still run. */
  readonly phase: "starting" | "running" | "stopping" | "stopped" | "orphaned";
  readonly supervisorPid?: number;
  readonly startedAt?: string;
  readonly parts: readonly PartStatus[];
  readonly memoryBytes: number;
}

/** Looks at every part of a stack now, also whether it answers. */
export async function readStatus(stack: StackName): Promise<StackStatus> {
  const state = readState(stack);
  if (state === undefined) return { stack, phase: "stopped", parts: [], memoryBytes: 0 };
  const supervised = isAlive(state.supervisor) && lockHolder(lockFile(stack)) !== undefined;
  const absent = partNamesOf(stack).filter((name) => !state.parts.some((part) => part.name === name));
  const parts = await Promise.all(state.parts.map((part) => lookAt(stack, part, absent)));
  const own = supervised ? memoryOf([state.supervisor.pid]) : 0;
  return {
    stack,
    phase: supervised ? state.phase : "orphaned",
    ...(supervised ? { supervisorPid: state.supervisor.pid } : {}),
    startedAt: state.startedAt,
    parts,
    memoryBytes: parts.reduce((sum, part) => sum + part.memoryBytes, own),
  };
}

async function lookAt(stack: StackName, record: PartRecord, without: readonly PartName[]): Promise<PartStatus> {
  const { name, ports, restarts } = record;
  const known = { name, ports, restarts };
  if (record.process === undefined) return { ...known, state: record.state, memoryBytes: 0 };
  if (!isAlive(record.process)) return { ...known, state: "dead", memoryBytes: 0 };
  const running = {
    ...known,
    pid: record.process.pid,
    uptimeSeconds: Math.floor((Date.now() - Date.parse(record.startedAt ?? "")) / 1000),
    memoryBytes: memoryOf(processTree(record.process.pid)),
  };
  if (record.state !== "ready") return { ...running, state: record.state };
  const reason = await partsOf(stack, without)
    .find((part) => part.name === name)
    ?.check?.();
  return reason === undefined ? { ...running, state: "ready" } : { ...running, state: "not ready", reason };
}

function memoryOf(pids: readonly number[]): number {
  let kilobytes = 0;
  for (const pid of pids) {
    try {
      const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
      kilobytes += Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0);
    } catch {
      // It ended between the two looks.
    }
  }
  return kilobytes * 1024;
}
