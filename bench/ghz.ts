import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { GHZ_VERSION, ghzFile, goEnvironment } from "#bench/config.ts";
import { transferRequest } from "#bench/fund-accounts.ts";
import {
  AMOUNT_MINOR_UNITS,
  CALL_TIMEOUT_MS,
  EXTRA_MS,
  FAILURES_SHOWN,
  type Load,
  type Pair,
} from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";
import { type Ended, runProgram } from "#bench/run-program.ts";
import { generatedFolder, localFolder } from "#infra/local/paths.mjs";
import { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Load by gRPC from ghz (https://ghz.sh). */

const CALL = "ledgermesh.ledger.v1.LedgerService.CreateTransfer";
/** Each call has a message of its own, with its own key; ghz begins anew when they are used up. More than any ledger makes. */
const MESSAGES_PER_SECOND = 12_000;
const REFUSED = "ResourceExhausted";
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
    const requests = join(folder, "requests");
    const report = join(folder, "report.json");
    const messages = Math.ceil(((load.warmUpMs + load.measureMs) * MESSAGES_PER_SECOND) / 1000);
    writeFileSync(requests, encodeRequests(load.pairs, messages));
    const flags = {
      protoset: join(generatedFolder, "descriptors.binpb"),
      call: CALL,
      ...(load.tls && { cacert: load.tls.caFile, cert: load.tls.certificateFile, key: load.tls.keyFile }),
      ...(load.bearer && { metadata: JSON.stringify({ authorization: `Bearer ${load.bearer}` }) }),
      concurrency: load.callers,
      connections: 1,
      // The warm-up is the beginning of the one run, so that the measured calls find everything warm.
      duration: `${load.warmUpMs + load.measureMs}ms`,
      // Otherwise it abandons the calls under way, and some of their transfers are written all the same.
      "duration-stop": "wait",
      timeout: `${CALL_TIMEOUT_MS}ms`,
      "binary-file": requests,
      format: "json",
      output: report,
    };
    // Without `async` a worker waits for the answer before it sends again, and the rate would be no more than a wish.
    const openLoop = load.callsPerSecond === undefined ? [] : ["--async", `--rps=${Math.round(load.callsPerSecond)}`];
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const timeout = load.warmUpMs + load.measureMs + EXTRA_MS;
    const ended = await runProgram(
      ghzFile,
      [...(load.tls ? [] : ["--insecure"]), ...openLoop, ...args, load.address],
      signal,
      { timeout },
    );
    if (ended.code !== 0) throw new Error(`ghz failed: ${ended.stderr.trim() || ended.failure}`);
    const reported = JSON.parse(readFileSync(report, "utf8")) as GhzReport;
    if (reported.count > messages) throw new Error(`ghz made ${reported.count} calls with ${messages} keys`);
    return toMeasurement(reported, load.warmUpMs, load.measureMs);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** So many messages, each behind its length: ghz's binary format. The pairs are used in turn. */
function encodeRequests(pairs: readonly Pair[], count: number): Uint8Array {
  const writer = new BinaryWriter();
  for (let index = 0; index < count; index += 1) {
    const request = transferRequest(...(pairs[index % pairs.length] as Pair), AMOUNT_MINOR_UNITS);
    writer.bytes(CreateTransferRequest.encode(request).finish());
  }
  return writer.finish();
}

/** The time runs from the moment at which the first call was sent. */
export function toMeasurement(report: GhzReport, warmUpMs: number, measureMs: number): Measurement {
  const calls = (report.details ?? []).map(({ timestamp, ...call }) => ({
    ...call,
    answeredMs: Date.parse(timestamp),
  }));
  const posted = calls.filter(({ status }) => status === "OK");
  const refused = calls.filter(({ status }) => status === REFUSED);
  const failures = calls.filter(({ status }) => status !== "OK" && status !== REFUSED);
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
    failed: report.count - posted.length - refused.length,
    refused: refused.length,
    firstFailures: failures.slice(0, FAILURES_SHOWN).map(({ status, error }) => error || `status ${status}`),
    measuredMs: measureMs,
    latenciesUs: Uint32Array.from(measured, ({ latency }) => latency / NS_PER_US),
  };
}
