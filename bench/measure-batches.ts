import { type Funded, transferRequest } from "#bench/fund-accounts.ts";
import type { Measurement } from "#bench/measurement.ts";
import { randomPair } from "#bench/random-pair.ts";
import { call } from "#lib/grpc-client.ts";
import {
  BatchCreateTransfersRequest,
  type LedgerServiceClient,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

const TRANSFERS_PER_BATCH = 1_000;
/** One is being written while the next one is parsed and queued. */
const BATCHES_IN_FLIGHT = 3;
const AMOUNT_MINOR_UNITS = 1n;

/** Batches from this process. The latency of a transfer is that of its batch. */
export async function measureBatches(
  ledger: LedgerServiceClient,
  funded: Funded,
  warmUpMs: number,
  measureMs: number,
): Promise<Measurement> {
  const measureFromMs = performance.now() + warmUpMs;
  const endMs = measureFromMs + measureMs;
  const latenciesUs: number[] = [];
  const firstFailures: string[] = [];
  let acknowledged = 0;
  let failed = 0;

  async function work(): Promise<void> {
    for (let sentMs = performance.now(); sentMs < endMs; sentMs = performance.now()) {
      const transfers = Array.from({ length: TRANSFERS_PER_BATCH }, () =>
        transferRequest(...randomPair(funded.accountIds), AMOUNT_MINOR_UNITS, funded.currency),
      );
      const request = BatchCreateTransfersRequest.fromPartial({ transfers });
      const { response } = await call(ledger, ledger.batchCreateTransfers, request);
      const answeredMs = performance.now();
      const posted = response.results.filter(
        ({ outcome }) => outcome?.$case === "transfer" && outcome.value.state === Transfer_State.POSTED,
      );
      acknowledged += posted.length;
      failed += response.results.length - posted.length;
      if (answeredMs > measureFromMs && answeredMs < endMs) {
        for (const _ of posted) latenciesUs.push((answeredMs - sentMs) * 1000);
      }
    }
  }

  await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, work));
  if (failed > 0) firstFailures.push("some transfers of a batch were not posted");
  return { acknowledged, failed, firstFailures, measuredMs: measureMs, latenciesUs: Uint32Array.from(latenciesUs) };
}
