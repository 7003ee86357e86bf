import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GHZ_VERSION, ghzFile, goEnvironment } from "#bench/config.ts";
import {
  AMOUNT_MINOR_UNITS,
  CALL_TIMEOUT_MS,
  CURRENCY,
  EXTRA_MS,
  FAILURES_SHOWN,
  type Load,
  type Pair,
} from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";
import { type Ended, runProgram } from "#bench/run-program.ts";
import { generatedFolder, localFolder } from "#infra/local/paths.mjs";

/** Load by gRPC from ghz (https://ghz.sh). */

const CALL = "ledgermesh.ledger.v1.LedgerService.CreateTransfer";
const NS_PER_US = 1_000;
const NS_PER_MS = 1_000_000;

/** The part of its JSON that is read. */
export interface GhzReport {
  readonly count: number;
  /** The first million calls; null when there was none. */
  readonly details: readonly GhzCall[] | null;
}

export interface GhzCall {
  /** When it was answered, RFC 3339. */
  readonly timestamp: string;
  /** In nanoseconds. */
  readonly latency: number;
  /** Such as "OK". */
  readonly status: string;
  /** Empty when there was none. */
  readonly error: string;
}

/** Builds it unless it is there already; how the building ended when that did not work. */
export async function installGhz(signal: AbortSignal): Promise<"installed" | Ended> {
  if (existsSync(ghzFile)) return "installed";
  const args = ["install", `github.com/bojand/ghz/cmd/ghz@v${GHZ_VERSION}`];
  const ended = await runProgram("go", args, signal, { env: goEnvironment() });
  return ended.code === 0 ? "installed" : ended;
}

export async function measureWithGhz(load: Load, signal: AbortSignal): Promise<Measurement> {
  const folder = mkdtempSync(join(localFolder, "bench-load-"));
  try {
    const requests = join(folder, "requests.json");
    const report = join(folder, "report.json");
    writeFileSync(requests, JSON.stringify(load.pairs.map(toRequest)));
    const flags = {
      protoset: join(generatedFolder, "descriptors.binpb"),
      call: CALL,
      concurrency: load.callers,
      connections: 1,
      // The warm-up is the beginning of the one run, so that the measured calls find everything warm.
      duration: `${load.warmUpMs + load.measureMs}ms`,
      // Otherwise it abandons the calls under way, and some of their transfers are written all the same.
      "duration-stop": "wait",
      timeout: `${CALL_TIMEOUT_MS}ms`,
      "data-file": requests,
      format: "json",
      output: report,
    };
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const timeout = load.warmUpMs + load.measureMs + EXTRA_MS;
    const ended = await runProgram(ghzFile, ["--insecure", ...args, load.address], signal, { timeout });
    if (ended.code !== 0) throw new Error(`ghz failed: ${ended.stderr.trim() || ended.failure}`);
    return toMeasurement(JSON.parse(readFileSync(report, "utf8")) as GhzReport, load.warmUpMs, load.measureMs);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A template: ghz puts a random UUID, version 4, into each call. */
function toRequest([debitAccountId, creditAccountId]: Pair): object {
  return {
    postings: [
      {
        debit_account_id: debitAccountId,
        credit_account_id: creditAccountId,
        amount_minor_units: String(AMOUNT_MINOR_UNITS),
        currency: CURRENCY,
      },
    ],
    idempotency_key: "{{.UUID}}",
  };
}

/** The time runs from the moment at which the first call was sent. */
export function toMeasurement(report: GhzReport, warmUpMs: number, measureMs: number): Measurement {
  const calls = (report.details ?? []).map(({ timestamp, ...call }) => ({
    ...call,
    answeredMs: Date.parse(timestamp),
  }));
  const posted = calls.filter(({ status }) => status === "OK");
  const failures = calls.filter(({ status }) => status !== "OK");
  if (calls.length !== report.count && failures.length === 0) {
    throw new Error(`ghz reports only ${calls.length} of its ${report.count} calls: measure for fewer seconds`);
  }
  const startedMs = calls.reduce(
    (earliest, call) => Math.min(earliest, call.answeredMs - call.latency / NS_PER_MS),
    Infinity,
  );
  const measureFromMs = startedMs + warmUpMs;
  const measured = posted.filter(
    ({ answeredMs }) => answeredMs > measureFromMs && answeredMs < measureFromMs + measureMs,
  );
  return {
    acknowledged: posted.length,
    failed: report.count - posted.length,
    firstFailures: failures.slice(0, FAILURES_SHOWN).map(({ status, error }) => error || `status ${status}`),
    measuredMs: measureMs,
    latenciesUs: Uint32Array.from(measured, ({ latency }) => latency / NS_PER_US),
  };
}
