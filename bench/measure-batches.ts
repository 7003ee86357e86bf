import type { Client } from "@grpc/grpc-js";
import { Metadata } from "@grpc/grpc-js";
import { measureClosedLoop } from "#bench/closed-loop.ts";
import { transferRequest } from "#bench/fund-accounts.ts";
import { AMOUNT_MINOR_UNITS } from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";
import type { DrawPair } from "#bench/pairs.ts";
import {
  BatchCreateTransfersRequest,
  BatchCreateTransfersResponse,
  LedgerServiceService,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

export const TRANSFERS_PER_BATCH = 1_000;
/** One is being written while the next one is parsed and queued. */
export const BATCHES_IN_FLIGHT = 3;
/** Requests are made beforehand for a ledger as fast as this; a faster one has them made as it goes. */
const PREPARED_TRANSFERS_PER_SECOND = 20_000;
const DEADLINE_MS = 30_000;

/**
 * Batches from this process, which shares the machine with what it measures: so requests are encoded before the time runs,
 * and answers decoded after it.
 */
export async function measureBatches(
  ledger: Client,
  draw: DrawPair,
  warmUpMs: number,
  measureMs: number,
): Promise<Measurement> {
  const encode = () => Buffer.from(BatchCreateTransfersRequest.encode(batchRequest(draw)).finish());
  const count = ((warmUpMs + measureMs) * PREPARED_TRANSFERS_PER_SECOND) / 1000 / TRANSFERS_PER_BATCH;
  const prepared = Array.from({ length: Math.ceil(count) }, encode);
  const answers: Buffer[] = [];
  const makeBatch = async () => {
    answers.push(await callEncoded(ledger, prepared.pop() ?? encode()));
    return TRANSFERS_PER_BATCH;
  };
  const callers = Array.from({ length: BATCHES_IN_FLIGHT }, () => makeBatch);
  const measurement = await measureClosedLoop(callers, warmUpMs, measureMs);
  const notPosted = answers.reduce((sum, answer) => sum + countNotPosted(answer), 0);
  if (notPosted === 0) return measurement;
  return {
    ...measurement,
    acknowledged: measurement.acknowledged - notPosted,
    failed: measurement.failed + notPosted,
    firstFailures: [...measurement.firstFailures, `${notPosted} transfers of batches were not posted`],
  };
}

export function batchRequest(draw: DrawPair): BatchCreateTransfersRequest {
  const transfers = Array.from({ length: TRANSFERS_PER_BATCH }, () => transferRequest(...draw(), AMOUNT_MINOR_UNITS));
  return BatchCreateTransfersRequest.fromPartial({ transfers });
}

function callEncoded(ledger: Client, request: Buffer): Promise<Buffer> {
  const { path } = LedgerServiceService.batchCreateTransfers;
  const asItIs = (bytes: Buffer) => bytes;
  const options = { deadline: Date.now() + DEADLINE_MS };
  return new Promise((resolve, reject) => {
    ledger.makeUnaryRequest(path, asItIs, asItIs, request, new Metadata(), options, (error, answer) => {
      if (error !== null) reject(error);
      else resolve(answer as Buffer);
    });
  });
}

function countNotPosted(answer: Buffer): number {
  const { results } = BatchCreateTransfersResponse.decode(answer);
  const posted = results.filter(
    ({ outcome }) => outcome?.$case === "transfer" && outcome.value.state === Transfer_State.POSTED,
  );
  return TRANSFERS_PER_BATCH - posted.length;
}
