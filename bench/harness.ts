import { setTimeout as sleep } from "node:timers/promises";
import { type ProcessorsUsed, processorsUsed, readCpuSeconds } from "#bench/cpu.ts";
import type { LoadClient } from "#bench/load-client.ts";
import type { Load, Protocol } from "#bench/load-request.ts";
import { type Measurement, perSecond } from "#bench/measurement.ts";
import { ledgerPeakBytes } from "#bench/memory.ts";
import type { DrawPair } from "#bench/pairs.ts";
import { checkMeasurement, checkpoint, type Written } from "#bench/verify.ts";
import type { Endpoints } from "#infra/local/stack.ts";

/** What every workload works with. */
export interface Harness {
  readonly stack: Endpoints;
  readonly client: LoadClient;
  /** A new access token of the service `console`, for REST. */
  readonly token: () => Promise<string>;
  readonly seconds: number;
  readonly rounds: number;
  readonly wanted: (workload: string) => boolean;
  /** A line of progress. */
  readonly say: (line: string) => void;
  /** Shows who used the processors, and remembers what others took. */
  readonly sawProcessors: (used: ProcessorsUsed) => void;
  readonly signal: AbortSignal;
}

export const CALLERS = 64;
/** Enough that taking them in turn is like drawing one for each call: a pair comes again after some seconds. */
const PAIRS = 20_000;
/** Connections open, plans and code get warm, and pages are written whole for the first time after the checkpoint. */
export const WARM_UP_MS = 2_000;
/** Between two measurements: the relay catches up, Postgres tidies up. */
const SETTLE_MS = 1_000;

/** Single transfers between accounts that are drawn anew, from the program that makes the load. */
export function unaryLoad(
  { stack, seconds, token }: Harness,
  protocol: Protocol,
  draw: DrawPair,
  callers = CALLERS,
): Load {
  return {
    protocol,
    address: protocol === "grpc" ? stack.ledger : new URL(stack.gateway).host,
    tls: stack.tls,
    token,
    callers,
    warmUpMs: WARM_UP_MS,
    measureMs: seconds * 1000,
    pairs: Array.from({ length: PAIRS }, draw),
  };
}

/** What is measured at a time. */
export interface Workload {
  readonly name: string;
  readonly measure: () => Promise<Measurement>;
  readonly count: () => Promise<Written>;
  /** More load than there is room for: some of it is refused. */
  readonly mayRefuse?: boolean;
}

/** Runs one measurement and checks that what was acknowledged was written, neither more nor less. */
export async function measureChecked(harness: Harness, workload: Workload): Promise<Measurement> {
  const { name, count, measure, mayRefuse = false } = workload;
  harness.signal.throwIfAborted();
  await checkpoint(harness.stack.shards);
  await sleep(SETTLE_MS);
  const before = await count();
  const cpuBefore = readCpuSeconds();
  const startedMs = performance.now();
  const measurement = await measure();
  const used = processorsUsed(cpuBefore, readCpuSeconds(), performance.now() - startedMs);
  harness.signal.throwIfAborted();
  checkMeasurement(name, measurement, before, await count());
  const { refused = 0 } = measurement;
  if (refused > 0 && !mayRefuse) throw new Error(`${name}: ${refused} calls were refused`);
  const ledgerMb = Math.round(ledgerPeakBytes() / 1_000_000);
  harness.say(
    `  ${name}: ${Math.round(perSecond(measurement))} transfers/s${refused > 0 ? `, ${refused} refused` : ""}; ledger ${ledgerMb} MB at most so far`,
  );
  harness.sawProcessors(used);
  return measurement;
}
