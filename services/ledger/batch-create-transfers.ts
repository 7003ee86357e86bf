import { type Call, idempotencyKeyOf, internalError, refusalToStatus } from "#lib/grpc-server.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { malformed, Refusal } from "#lib/refusal.ts";
import type {
  BatchCreateTransfersRequest,
  BatchCreateTransfersResponse,
  BatchCreateTransfersResponse_Result,
  CreateTransferRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { BATCH_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import {
  type PreparedTransfer,
  prepareTransfer,
  submitTransfer,
  toProcessingTransfer,
  toTransfer,
} from "#services/ledger/make-transfer.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";

export const MAX_TRANSFERS_PER_CALL = 10_000;

let batchCalls = 0;

export async function batchCreateTransfers(
  ctx: Context,
  request: BatchCreateTransfersRequest,
  call: Call,
): Promise<BatchCreateTransfersResponse> {
  refuseMalformedBatch(request.transfers);
  batchCalls += 1;
  const lane = { name: `${call.caller} batch ${batchCalls}`, ordered: true };
  const positions: Position[] = [];
  const failed = (error: unknown): BatchCreateTransfersResponse_Result => {
    if (!(error instanceof Refusal)) ctx.log.error({ err: error }, "a transfer of a batch failed");
    const refusal = error instanceof Refusal ? error : internalError;
    return { outcome: { $case: "error", value: refusalToStatus(refusal) }, replayed: false };
  };
  // Opening a system account takes its time: only when all are known, the transfers queue in their order.
  const prepared = await Promise.allSettled(request.transfers.map((item) => prepareOne(ctx, call, lane, item)));
  const results = await Promise.all(
    prepared.map((result) =>
      result.status === "rejected" ? failed(result.reason) : submitOne(result.value, positions).catch(failed),
    ),
  );
  if (positions.length > 0) call.setPosition(encodePosition(positions));
  return { results };
}

/** What is wrong with the call as a whole; what is wrong with one transfer is that one's result. */
function refuseMalformedBatch(items: readonly CreateTransferRequest[]): void {
  if (items.length === 0 || items.length > MAX_TRANSFERS_PER_CALL) {
    const description = `must hold 1 to ${MAX_TRANSFERS_PER_CALL} transfers, not ${items.length}`;
    throw malformed([{ field: "transfers", description }]);
  }
  const seen = new Map<string, number>();
  for (const [index, { idempotencyKey }] of items.entries()) {
    const first = seen.get(idempotencyKey);
    if (first !== undefined && idempotencyKey !== "") {
      const description = `is the same as that of transfers[${first}]: each needs its own`;
      throw malformed([{ field: `transfers[${index}].idempotency_key`, description }]);
    }
    seen.set(idempotencyKey, index);
  }
}

async function prepareOne(
  ctx: Context,
  call: Call,
  lane: LaneName,
  item: CreateTransferRequest,
): Promise<PreparedTransfer> {
  // The call's own header cannot stand for many transfers.
  const idempotencyKey = idempotencyKeyOf({ idempotencyKey: undefined }, item.idempotencyKey);
  const parsed = parseTransfer(item);
  return prepareTransfer(ctx, { parsed, caller: call.caller, idempotencyKey, lane, timeoutMs: BATCH_TIMEOUT_MS });
}

async function submitOne(
  prepared: PreparedTransfer,
  positions: Position[],
): Promise<BatchCreateTransfersResponse_Result> {
  const { outcome, shard } = await submitTransfer(prepared);
  switch (outcome.kind) {
    case "posted":
      positions.push({ shard, number: outcome.eventNumber });
      return { outcome: { $case: "transfer", value: toTransfer(outcome.transfer) }, replayed: outcome.replayed };
    case "refused":
      return { outcome: { $case: "error", value: refusalToStatus(outcome.refusal) }, replayed: outcome.replayed };
    case "unknown":
      return { outcome: { $case: "transfer", value: toProcessingTransfer(outcome.command) }, replayed: false };
    case "failed":
      throw outcome.error;
  }
}
