import { fundAccounts, transferRequest } from "#bench/fund-accounts.ts";
import { CALLERS, type Harness, unaryLoad, WARM_UP_MS } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { type Line, type Measured, measureInTurns, toRow } from "#bench/lines.ts";
import { BATCHES_IN_FLIGHT, measureBatches } from "#bench/measure-batches.ts";
import { median, perSecond, summarize } from "#bench/measurement.ts";
import { ledgerMemoryRow } from "#bench/memory.ts";
import { type DrawPair, hotPairs, pairsBetween, uniformPairs } from "#bench/pairs.ts";
import { openRawLine, RAW_CONNECTIONS, type RawKind, type RawLine } from "#bench/raw-line.ts";
import type { Row } from "#bench/table.ts";
import { checkDurable, checkShards, countCrossShardTransfers, countTransfers } from "#bench/verify.ts";
import { call } from "#lib/grpc-client.ts";
import type { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Ledger, Postgres, relay, NATS and the gateway, each line against its raw one, in turns. */

export const LEDGER_WORKLOADS = [
  "raw",
  "grpc",
  "rest",
  "raw-hot",
  "hot",
  "raw-batch",
  "batch",
  "raw-batch-hot",
  "batch-hot",
  "cross-shard",
];

const ACCOUNTS = 10_000;
const UNARY_P99_MAX_MS = 40;
const BATCH_PER_SECOND_MIN = 10_000;

const RAW_SEQUENCE = `raw: one SQL function each, ${RAW_CONNECTIONS.sequence} connections, numbers from a sequence`;
const RAW_HEAD = "raw: the same, numbers without gaps (shard head)";
const RAW_HOT = "raw: one SQL function each, all credit one account";
const RAW_BATCH = `raw: 100 a function, set by set, ${RAW_CONNECTIONS.batch} connections, shard head`;
const RAW_BATCH_HOT = "raw: 100 a function, all credit one account";
const UNARY = `unary gRPC, ${CALLERS} callers`;
const BATCH = `batches of 1,000 by gRPC, ${BATCHES_IN_FLIGHT} in flight`;
const BATCH_HOT = "batches of 1,000, all credit one account";

export async function runLedgerWorkloads(harness: Harness): Promise<Row[]> {
  const { stack, say } = harness;
  await checkDurable(stack.shards);
  const ledger = openLedger(stack);
  try {
    say(`funding ${ACCOUNTS} accounts on shard 1, and as many on shard 2`);
    const accountIds = await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length);
    const elsewhere = await fundAccounts(ledger, ACCOUNTS, [2], stack.shards.length);
    const [first = "", second = ""] = accountIds;
    const { response } = await call(ledger, ledger.createTransfer, transferRequest(first, second, 1n));
    const raw = await openRawLine(stack.shards[0] as string, accountIds, response.transferId);
    const lines = [
      ...uniformLines(harness, raw, uniformPairs(accountIds)),
      ...hotLines(harness, raw, hotPairs(accountIds)),
      ...batchLines(harness, ledger, raw, uniformPairs(accountIds), hotPairs(accountIds)),
      crossShardLine(harness, pairsBetween(accountIds, elsewhere)),
    ];
    const measured = await measureInTurns(harness, lines);
    say("checking: sums, balances against entries, everything published");
    await checkShards(stack.shards);
    const rows = lines.filter(({ name }) => measured.has(name)).flatMap((line) => toRows(line, measured));
    return [...rows, ledgerMemoryRow()];
  } finally {
    ledger.close();
  }
}

function uniformLines(harness: Harness, raw: RawLine, draw: DrawPair): Line[] {
  const of = [RAW_SEQUENCE, RAW_HEAD];
  return [
    rawLine(harness, "raw", RAW_SEQUENCE, raw, "sequence", draw),
    rawLine(harness, "raw", RAW_HEAD, raw, "head", draw),
    { ...unaryLine(harness, "grpc", UNARY, draw), atLeast: { times: 1.2, of } },
    {
      only: "rest",
      name: `REST through Envoy, ${CALLERS} callers`,
      client: harness.client.names.rest,
      measure: () => harness.client.measure(unaryLoad(harness, "rest", draw)),
      count: () => countTransfers(harness.stack.shards),
      atLeast: { times: 0.5, of },
    },
  ];
}

/** One account's row is locked until the commit, so raw transfers to it commit one by one wherever their numbers are from. */
function hotLines(harness: Harness, raw: RawLine, draw: DrawPair): Line[] {
  const name = `unary gRPC, ${CALLERS} callers, all credit one account`;
  return [
    rawLine(harness, "raw-hot", RAW_HOT, raw, "sequence", draw),
    { ...unaryLine(harness, "hot", name, draw), atLeast: { times: 3, of: [RAW_HOT] } },
  ];
}

function batchLines(
  harness: Harness,
  ledger: LedgerServiceClient,
  raw: RawLine,
  uniform: DrawPair,
  hot: DrawPair,
): Line[] {
  const batches = (only: string, name: string, draw: DrawPair, rawName: string): Line => ({
    only,
    name,
    measure: () => measureBatches(ledger, draw, WARM_UP_MS, harness.seconds * 1000),
    count: () => countTransfers(harness.stack.shards),
    atLeast: { times: 1, of: [rawName] },
  });
  return [
    rawLine(harness, "raw-batch", RAW_BATCH, raw, "batch", uniform),
    batches("batch", BATCH, uniform, RAW_BATCH),
    rawLine(harness, "raw-batch-hot", RAW_BATCH_HOT, raw, "batch", hot),
    batches("batch-hot", BATCH_HOT, hot, RAW_BATCH_HOT),
  ];
}

/** Debit on shard 1, credit on shard 2: answered when both are posted, and counted on both. */
function crossShardLine(harness: Harness, draw: DrawPair): Line {
  return {
    ...unaryLine(harness, "cross-shard", `unary gRPC, ${CALLERS} callers, from shard 1 to shard 2`, draw),
    count: () => countCrossShardTransfers(harness.stack.shards),
    atLeast: { times: 0.4, of: [UNARY] },
  };
}

function rawLine({ seconds }: Harness, only: string, name: string, raw: RawLine, kind: RawKind, draw: DrawPair): Line {
  const measure = () => raw.measure(kind, draw, WARM_UP_MS, seconds * 1000);
  return { only, name, measure, count: async () => ({ transfers: await raw.count() }) };
}

function unaryLine(harness: Harness, only: string, name: string, draw: DrawPair): Line {
  return {
    only,
    name,
    client: harness.client.names.grpc,
    measure: () => harness.client.measure(unaryLoad(harness, "grpc", draw)),
    count: () => countTransfers(harness.stack.shards),
  };
}

/** A line with what else is asked of it. */
function toRows(line: Line, measured: Measured): Row[] {
  const row = toRow(line, measured);
  if (line.name === UNARY) return [row, p99Row(measured)];
  if (line.name === BATCH) return [row, batchRateRow(measured, BATCH, RAW_BATCH)];
  if (line.name === BATCH_HOT) return [row, batchRateRow(measured, BATCH_HOT, RAW_BATCH_HOT)];
  return [row];
}

function p99Row(measured: Measured): Row {
  const { p99Ms } = summarize(measured.get(UNARY) ?? []);
  return {
    workload: "  its p99",
    figure: `${p99Ms.toFixed(1)} ms`,
    bound: `<= ${UNARY_P99_MAX_MS} ms`,
    met: p99Ms <= UNARY_P99_MAX_MS,
  };
}

/** Asked for where the raw line is as fast; elsewhere it is no fault of the ledger's. */
function batchRateRow(measured: Measured, name: string, rawName: string): Row {
  const [perSecondHere, perSecondRaw] = [name, rawName].map((line) =>
    median((measured.get(line) ?? []).map(perSecond)),
  );
  const rate = perSecondHere as number;
  const bound = `>= ${BATCH_PER_SECOND_MIN.toLocaleString("en")}`;
  const row = { workload: "  its rate", figure: `${Math.round(rate).toLocaleString("en")}` };
  if (rate >= BATCH_PER_SECOND_MIN) return { ...row, bound, met: true };
  if ((perSecondRaw as number) >= BATCH_PER_SECOND_MIN) return { ...row, bound, met: false };
  return { ...row, bound: `${bound}, if raw is` };
}
