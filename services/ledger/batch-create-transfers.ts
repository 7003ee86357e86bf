import { type Call, idempotencyKeyOf, internalError, refusalToStatus } from "#lib/grpc-server.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { Defect, malformed, Refusal } from "#lib/refusal.ts";
import type {
  BatchCreateTransfersRequest,
  BatchCreateTransfersResponse,
  BatchCreateTransfersResponse_Result,
  CreateTransferRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { BATCH_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { prepareElsewhere } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import {
  CREATE_TRANSFER,
  type MadeTransfer,
  type PreparedTransfer,
  prepareTransfer,
  submitTransfer,
  toProcessingTransfer,
  toTransfer,
} from "#services/ledger/make-transfer.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";

export const MAX_TRANSFERS_PER_CALL = 10_000;
/** Legs on other shards are decided well within the time for which recovery lets them wait. */
const MAX_PREPARED_AT_ONCE = 500;

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
  const results: BatchCreateTransfersResponse_Result[] = [];
  for (const part of partsOf(prepared)) {
    results.push(...(await submitPart(ctx, part, positions, failed)));
  }
  if (positions.length > 0) call.setPosition(encodePosition(positions));
  return { results };
}

type Prepared = PromiseSettledResult<PreparedTransfer>;

/** What is submitted at once: everything, unless there are transfers between shards, whose legs are prepared just before. */
function partsOf(prepared: readonly Prepared[]): (readonly Prepared[])[] {
  const crossShard = prepared.some((result) => result.status === "fulfilled" && result.value.command.crossShard);
  if (!crossShard) return [prepared];
  const parts: (readonly Prepared[])[] = [];
  for (let from = 0; from < prepared.length; from += MAX_PREPARED_AT_ONCE) {
    parts.push(prepared.slice(from, from + MAX_PREPARED_AT_ONCE));
  }
  return parts;
}

async function submitPart(
  ctx: Context,
  part: readonly Prepared[],
  positions: Position[],
  failed: (error: unknown) => BatchCreateTransfersResponse_Result,
): Promise<BatchCreateTransfersResponse_Result[]> {
  const refusedElsewhere = await Promise.all(
    part.map((result) => (result.status === "fulfilled" ? prepareElsewhere(result.value) : undefined)),
  );
  return Promise.all(
    part.map((result, index) =>
      result.status === "rejected"
        ? failed(result.reason)
        : submitTransfer(ctx, result.value, refusedElsewhere[index])
            .then((made) => toResult(made, positions))
            .catch(failed),
    ),
  );
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
  return prepareTransfer(ctx, {
    parsed,
    caller: call.caller,
    method: CREATE_TRANSFER,
    idempotencyKey,
    lane,
    timeoutMs: BATCH_TIMEOUT_MS,
  });
}

function toResult(
  { outcome, command, elsewhere, position }: MadeTransfer,
  positions: Position[],
): BatchCreateTransfersResponse_Result {
  switch (outcome.kind) {
    case "done":
      if (outcome.answer.kind !== "transfer") throw new Defect(`a transfer was answered with ${outcome.answer.kind}`);
      if (position !== undefined) positions.push(position);
      positions.push(...elsewhere.positions);
      return {
        outcome: { $case: "transfer", value: toTransfer(outcome.answer.transfer, elsewhere) },
        replayed: outcome.replayed,
      };
    case "refused":
      return { outcome: { $case: "error", value: refusalToStatus(outcome.refusal) }, replayed: outcome.replayed };
    case "unknown":
      return { outcome: { $case: "transfer", value: toProcessingTransfer(command) }, replayed: false };
    case "failed":
      throw outcome.error;
  }
}
