import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { fundAccounts, transferRequest } from "#bench/fund-accounts.ts";
import { type Harness, measureChecked, unaryLoad, WARM_UP_MS } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { type Line, measureInTurns, toRow } from "#bench/lines.ts";
import { AMOUNT_MINOR_UNITS, CALL_TIMEOUT_MS, type Load } from "#bench/load-request.ts";
import { type Measurement, median, perSecond, summarize } from "#bench/measurement.ts";
import { ledgerMemoryRow } from "#bench/memory.ts";
import { type DrawPair, uniformPairs } from "#bench/pairs.ts";
import type { Row } from "#bench/table.ts";
import { checkShards, countTransfers } from "#bench/verify.ts";
import { CallError, call } from "#lib/grpc-client.ts";
import { type LedgerServiceClient, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** More load than there is room for: twice the callers that give the peak, and an open loop beyond the peak's rate. */

export const OVERLOAD = "overload";

const ACCOUNTS = 10_000;
const CALLERS_TRIED = [32, 64, 128];
const OPEN_LOOP_TIMES = 1.3;
/** What the load client must have sent, in times the peak, for the open loop to be one. */
const SENT_TIMES_MIN = 1.25;
const PEAK_SHARE_MIN = 0.85;
/** A payment command answers within 5 s (R-S3). */
const ANSWERED_WITHIN_MS = 5_000;
const PROBE_EVERY_MS = 20;

export async function runOverload(harness: Harness): Promise<Row[]> {
  const { stack, say } = harness;
  const ledger = openLedger(stack);
  try {
    say(`funding ${ACCOUNTS} accounts on shard 1`);
    const draw = uniformPairs(await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length));
    const callers = await findPeak(harness, draw);
    const peak = closedLoop(harness, `unary gRPC, ${callers} callers: the peak`, draw, callers);
    const twice = closedLoop(harness, `unary gRPC, ${2 * callers} callers: twice as many`, draw, 2 * callers);
    const atLeast = { times: PEAK_SHARE_MIN, of: [peak.name] };
    const seen = { peakPerSecond: 0, refusalsLookedAt: 0 };
    const lines: [Line, Line, Line] = [
      {
        ...peak,
        async measure() {
          const measurement = await peak.measure();
          seen.peakPerSecond = perSecond(measurement);
          return measurement;
        },
      },
      { ...twice, atLeast },
      {
        ...twice,
        name: `unary gRPC, open loop at ${OPEN_LOOP_TIMES} x the peak's rate`,
        async measure() {
          const load = { ...unaryLoad(harness, "grpc", draw), callsPerSecond: OPEN_LOOP_TIMES * seen.peakPerSecond };
          const { measurement, refusalsLookedAt } = await measureProbed(harness, ledger, load, draw);
          seen.refusalsLookedAt += refusalsLookedAt;
          return measurement;
        },
        mayRefuse: true,
        atLeast,
      },
    ];
    const measured = await measureInTurns(harness, lines);
    say("checking: sums, balances against entries, everything published");
    await checkShards(stack.shards);
    const [ofPeak, ofTwice, ofOpenLoop] = lines.map(({ name }) => measured.get(name) ?? []) as [Runs, Runs, Runs];
    return [
      ...lines.map((line) => toRow(line, measured)),
      sentRow(harness, ofOpenLoop, ofPeak),
      refusedRow(ofOpenLoop, seen.refusalsLookedAt),
      longestRow([...ofTwice, ...ofOpenLoop]),
      ledgerMemoryRow(),
    ];
  } finally {
    ledger.close();
  }
}

type Runs = readonly Measurement[];

/** How many callers give the most transfers per second. */
async function findPeak(harness: Harness, draw: DrawPair): Promise<number> {
  let peak = { callers: 0, rate: 0 };
  for (const callers of CALLERS_TRIED) {
    const rate = perSecond(await measureChecked(harness, closedLoop(harness, `${callers} callers`, draw, callers)));
    if (rate > peak.rate) peak = { callers, rate };
  }
  return peak.callers;
}

function closedLoop(harness: Harness, name: string, draw: DrawPair, callers: number): Line {
  const { client, stack } = harness;
  return {
    only: OVERLOAD,
    name,
    client: client.names.grpc,
    measure: () => client.measure(unaryLoad(harness, "grpc", draw, callers)),
    count: () => countTransfers(stack.shards),
  };
}

/** A load with a few calls beside it from here, whose refusals are looked at as a client sees them. */
async function measureProbed(
  { client }: Harness,
  ledger: LedgerServiceClient,
  load: Load,
  draw: DrawPair,
): Promise<{ measurement: Measurement; refusalsLookedAt: number }> {
  const ended = new AbortController();
  const probing = probe(ledger, draw, ended.signal);
  const measurement = await client.measure(load).finally(() => ended.abort());
  const answers = await probing;
  const wrong = answers.find((answer) => answer instanceof Error);
  if (wrong !== undefined) throw wrong;
  const posted = answers.filter((answer) => answer === "posted").length;
  return {
    measurement: { ...measurement, acknowledged: measurement.acknowledged + posted },
    refusalsLookedAt: answers.length - posted,
  };
}

type ProbeAnswer = "posted" | "refused" | Error;

async function probe(ledger: LedgerServiceClient, draw: DrawPair, signal: AbortSignal): Promise<ProbeAnswer[]> {
  const answers: Promise<ProbeAnswer>[] = [];
  while (!signal.aborted) {
    answers.push(probeOnce(ledger, draw));
    await sleep(PROBE_EVERY_MS);
  }
  return Promise.all(answers);
}

/** Refused means: as it is promised. */
async function probeOnce(ledger: LedgerServiceClient, draw: DrawPair): Promise<ProbeAnswer> {
  try {
    const wanted = transferRequest(...draw(), AMOUNT_MINOR_UNITS);
    const { response } = await call(ledger, ledger.createTransfer, wanted, {}, CALL_TIMEOUT_MS);
    return response.state === Transfer_State.POSTED ? "posted" : new Error(`a transfer has state ${response.state}`);
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    if (error.code !== status.RESOURCE_EXHAUSTED) return error;
    const { retryAfterMs = 0 } = error;
    return retryAfterMs > 0 ? "refused" : new Error(`a refusal says nothing about when to try again: ${error.message}`);
  }
}

/** The warm-up included: the open loop has one rate from its beginning to its end. */
function sentRow({ seconds }: Harness, ofOpenLoop: Runs, ofPeak: Runs): Row {
  const sent = ofOpenLoop.map(
    ({ acknowledged, refused = 0 }) => ((acknowledged + refused) * 1000) / (WARM_UP_MS + seconds * 1000),
  );
  const ratio = median(sent.map((rate, round) => rate / perSecond(ofPeak[round] as Measurement)));
  return {
    workload: "  calls per second that the client really sent",
    figure: Math.round(median(sent)).toLocaleString("en"),
    ratio,
    bound: `>= ${SENT_TIMES_MIN}`,
    met: ratio >= SENT_TIMES_MIN,
  };
}

/** Any other failure would have ended the bench. */
function refusedRow(ofOpenLoop: Runs, lookedAt: number): Row {
  const refused = ofOpenLoop.reduce((sum, measurement) => sum + (measurement.refused ?? 0), 0);
  return {
    workload: `  calls refused, all with RESOURCE_EXHAUSTED; RetryInfo in ${lookedAt} of ${lookedAt} looked at`,
    figure: refused.toLocaleString("en"),
  };
}

function longestRow(runs: Runs): Row {
  const { maxMs } = summarize(runs);
  return {
    workload: "  longest accepted call of these two lines",
    figure: `${Math.round(maxMs).toLocaleString("en")} ms`,
    bound: `< ${ANSWERED_WITHIN_MS.toLocaleString("en")} ms`,
    met: maxMs < ANSWERED_WITHIN_MS,
  };
}
