import { fundAccounts, transferRequest } from "#bench/fund-accounts.ts";
import { CALLERS, type Harness, measureChecked, PAIRS, WARM_UP_MS } from "#bench/harness.ts";
import type { LoadClient } from "#bench/load-client.ts";
import type { Protocol } from "#bench/load-request.ts";
import { measureBatches } from "#bench/measure-batches.ts";
import { type Measurement, median, perSecond, summarize } from "#bench/measurement.ts";
import { randomPairs } from "#bench/random-pair.ts";
import { openRawLine } from "#bench/raw-line.ts";
import type { Row } from "#bench/table.ts";
import { checkDurable, checkShards, countTransfers } from "#bench/verify.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Ledger, Postgres, relay, NATS and the gateway, against the raw line, in turns. */

export const LEDGER_WORKLOADS = ["raw", "grpc", "rest", "batch"];

const ACCOUNTS = 10_000;
const UNARY_RATIO_MIN = 0.8;
const REST_RATIO_MIN = 0.4;

export async function runLedgerWorkloads(harness: Harness): Promise<Row[]> {
  const { stack, client, say, wanted } = harness;
  await checkDurable(stack.shards);
  const ledger = openClient(LedgerServiceClient, stack.ledger);
  try {
    say(`funding ${ACCOUNTS} accounts on shard 1`);
    const funded = await fundAccounts(ledger, ACCOUNTS, [1], stack.shards.length);
    const [first = "", second = ""] = funded.accountIds;
    const { response } = await call(ledger, ledger.createTransfer, transferRequest(first, second, 1n, funded.currency));
    const shard1 = stack.shards[0] as string;
    const raw = await openRawLine(shard1, funded, response.transferId);

    const measureMs = harness.seconds * 1000;
    const ofLedger = () => countTransfers(stack.shards);
    const load = (protocol: Protocol, address: string) => () => {
      const pairs = randomPairs(funded.accountIds, PAIRS);
      const { currency } = funded;
      return client.measure({ protocol, address, callers: CALLERS, warmUpMs: WARM_UP_MS, measureMs, pairs, currency });
    };
    const turns = [
      ["raw", RAW_SEQUENCE, raw.count, () => raw.measure(false, WARM_UP_MS, measureMs)],
      ["raw", RAW_HEAD, raw.count, () => raw.measure(true, WARM_UP_MS, measureMs)],
      ["grpc", UNARY, ofLedger, load("grpc", stack.ledger)],
      ["rest", REST, ofLedger, load("rest", new URL(stack.gateway).host)],
    ] as const;
    const measured = new Map<string, Measurement[]>();
    for (let round = 1; round <= harness.rounds; round += 1) {
      say(`round ${round} of ${harness.rounds}`);
      for (const [workload, name, count, measure] of turns) {
        if (!wanted(workload)) continue;
        const measurement = await measureChecked(harness, name, count, measure);
        measured.set(name, [...(measured.get(name) ?? []), measurement]);
      }
    }
    if (wanted("batch")) {
      const measure = () => measureBatches(ledger, funded, WARM_UP_MS, measureMs);
      measured.set(BATCH, [await measureChecked(harness, BATCH, ofLedger, measure)]);
    }
    say("checking: sums, balances against entries, everything published");
    await checkShards(stack.shards);
    return toRows(measured, client.names);
  } finally {
    ledger.close();
  }
}

const RAW_SEQUENCE = "raw: one SQL function each, 16 connections, numbers from a sequence";
const RAW_HEAD = "raw: the same, numbers without gaps (shard head)";
const UNARY = `unary gRPC, ${CALLERS} callers`;
const REST = `REST through Envoy, ${CALLERS} callers`;
const BATCH = "batches of 1,000 by gRPC";

function toRows(measured: ReadonlyMap<string, readonly Measurement[]>, clients: LoadClient["names"]): Row[] {
  const ratesOf = (name: string) => (measured.get(name) ?? []).map(perSecond);
  // The raw line is the faster one of each round.
  const sequence = ratesOf(RAW_SEQUENCE);
  const raw = ratesOf(RAW_HEAD).map((rate, round) => Math.max(rate, sequence[round] ?? 0));
  const compared = new Map([
    [UNARY, { minimum: UNARY_RATIO_MIN, client: clients.grpc }],
    [REST, { minimum: REST_RATIO_MIN, client: clients.rest }],
  ]);
  return [...measured].map(([name, measurements]) => {
    const summary = summarize(measurements);
    const { minimum, client } = compared.get(name) ?? {};
    if (minimum === undefined) return { workload: name, summary };
    const row = { workload: `${name}, ${client}`, summary };
    if (raw.length === 0) return row;
    const ratio = median(ratesOf(name).map((rate, round) => rate / (raw[round] ?? Number.NaN)));
    return { ...row, ratio, bound: `>= ${minimum}`, met: ratio >= minimum };
  });
}
