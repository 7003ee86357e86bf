import type { Call } from "#lib/grpc-server.ts";
import { internalError, refusalToStatus } from "#lib/grpc-status.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { Defect, Refusal } from "#lib/refusal.ts";
import type {
  BatchCreateTransfersRequest,
  BatchCreateTransfersResponse,
  BatchCreateTransfersResponse_Result,
  CreateTransferRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { BATCH_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { prepareElsewhere } from "#services/ledger/cross-shard.ts";
import { refuseGroup } from "#services/ledger/evaluate-group.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { type PreparedGroup, prepareGroup, submitGroup } from "#services/ledger/make-group.ts";
import {
  CREATE_TRANSFER,
  type MadeTransfer,
  type PreparedTransfer,
  prepareTransfer,
  submitTransfer,
  type TransferOrder,
  toProcessingTransfer,
  toTransfer,
} from "#services/ledger/make-transfer.ts";
import { isGroup, parseBatch, type Unit } from "#services/ledger/parse-batch.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";
import type { TransferCommand } from "#services/ledger/transfer.ts";

/** Legs on other shards are decided well within the time for which recovery lets them wait. */
const MAX_PREPARED_AT_ONCE = 500;

let batchCalls = 0;

type Result = BatchCreateTransfersResponse_Result;

export async function batchCreateTransfers(
  ctx: Context,
  request: BatchCreateTransfersRequest,
  call: Call,
): Promise<BatchCreateTransfersResponse> {
  const units = parseBatch(request.transfers);
  batchCalls += 1;
  const lane = { name: `${call.caller} batch ${batchCalls}`, ordered: true };
  const positions: Position[] = [];
  const failed = (error: unknown): Result => {
    if (!(error instanceof Refusal)) ctx.log.error({ err: error }, "a transfer of a batch failed");
    const refusal = error instanceof Refusal ? error : internalError;
    return { outcome: { $case: "error", value: refusalToStatus(refusal) }, replayed: false };
  };
  // Opening a system account takes its time: only when all are known, the transfers queue in their order.
  const prepared = await Promise.all(units.map((unit) => prepareUnit(ctx, call, lane, unit)));
  const results: Result[] = [];
  for (const part of partsOf(prepared)) {
    results.push(...(await submitPart(ctx, part, positions, failed)));
  }
  if (positions.length > 0) call.setPosition(encodePosition(positions));
  return { results };
}

type PreparedUnit =
  | { readonly kind: "single"; readonly transfer: PreparedTransfer }
  | { readonly kind: "group"; readonly group: PreparedGroup }
  /** One error per transfer. */
  | { readonly kind: "failed"; readonly errors: readonly unknown[] };

/** What is submitted at once: everything, unless there are transfers between shards, whose legs are prepared just before. */
function partsOf(prepared: readonly PreparedUnit[]): (readonly PreparedUnit[])[] {
  if (!prepared.some(isCrossShard)) return [prepared];
  const parts: PreparedUnit[][] = [];
  let room = 0;
  for (const unit of prepared) {
    const count = unit.kind === "group" ? unit.group.members.length : 1;
    if (parts.length === 0 || room < count) {
      parts.push([]);
      room = MAX_PREPARED_AT_ONCE;
    }
    room -= count;
    parts.at(-1)?.push(unit);
  }
  return parts;
}

function isCrossShard(unit: PreparedUnit): boolean {
  switch (unit.kind) {
    case "single":
      return unit.transfer.command.crossShard;
    case "group":
      return unit.group.members.some(({ command }) => command.crossShard);
    case "failed":
      return false;
  }
}

async function submitPart(
  ctx: Context,
  part: readonly PreparedUnit[],
  positions: Position[],
  failed: (error: unknown) => Result,
): Promise<Result[]> {
  // Everything is prepared before anything is queued: what is queued keeps its order.
  const ready = await Promise.all(part.map(prepareUnitElsewhere));
  const results = await Promise.all(ready.map((unit) => submitUnit(ctx, unit, positions, failed)));
  return results.flat();
}

/** Queues it at once. */
function submitUnit(
  ctx: Context,
  unit: ReadyUnit,
  positions: Position[],
  failed: (error: unknown) => Result,
): Promise<Result | readonly Result[]> {
  switch (unit.kind) {
    case "failed":
      return Promise.resolve(unit.errors.map(failed));
    case "single":
      return submitTransfer(ctx, unit.transfer, unit.refusedElsewhere)
        .then((made) => toResult(made, positions))
        .catch(failed);
    case "group":
      return submitGroup(ctx, unit.group, unit.refusedElsewhere)
        .then((made) => made.map((member) => toResult(member, positions)))
        .catch((error) => unit.group.members.map(() => failed(error)));
  }
}

type ReadyUnit =
  | (Extract<PreparedUnit, { kind: "single" }> & { readonly refusedElsewhere: RefusedElsewhere })
  | (Extract<PreparedUnit, { kind: "group" }> & { readonly refusedElsewhere: readonly RefusedElsewhere[] })
  | Extract<PreparedUnit, { kind: "failed" }>;
type RefusedElsewhere = TransferCommand["refusedElsewhere"];

async function prepareUnitElsewhere(unit: PreparedUnit): Promise<ReadyUnit> {
  switch (unit.kind) {
    case "single":
      return { ...unit, refusedElsewhere: await prepareElsewhere(unit.transfer) };
    case "group":
      return { ...unit, refusedElsewhere: await Promise.all(unit.group.members.map(prepareElsewhere)) };
    case "failed":
      return unit;
  }
}

async function prepareUnit(ctx: Context, call: Call, lane: LaneName, unit: Unit): Promise<PreparedUnit> {
  if (isGroup(unit)) return prepareMembers(ctx, call, lane, unit);
  try {
    return { kind: "single", transfer: await prepareTransfer(ctx, orderOf(call, lane, unit)) };
  } catch (error) {
    return { kind: "failed", errors: [error] };
  }
}

async function prepareMembers(
  ctx: Context,
  call: Call,
  lane: LaneName,
  members: readonly CreateTransferRequest[],
): Promise<PreparedUnit> {
  const orders: TransferOrder[] = [];
  const refused = members.map((member) => {
    try {
      orders.push(orderOf(call, lane, member));
      return undefined;
    } catch (error) {
      if (error instanceof Refusal) return error;
      throw error;
    }
  });
  if (orders.length < members.length) {
    const keys = members.map(({ idempotencyKey }) => idempotencyKey);
    return { kind: "failed", errors: refuseGroup(refused, keys) };
  }
  try {
    const group = await prepareGroup(ctx, members[0]?.group ?? "", orders);
    return "members" in group ? { kind: "group", group } : { kind: "failed", errors: group };
  } catch (error) {
    return { kind: "failed", errors: members.map(() => error) };
  }
}

/** Throws a Refusal when the transfer is malformed. */
function orderOf(call: Call, lane: LaneName, item: CreateTransferRequest): TransferOrder {
  // The call's own header cannot stand for many transfers.
  const idempotencyKey = idempotencyKeyOf({ idempotencyKey: undefined }, item.idempotencyKey);
  return {
    parsed: parseTransfer(item),
    caller: call.caller,
    method: CREATE_TRANSFER,
    idempotencyKey,
    lane,
    timeoutMs: BATCH_TIMEOUT_MS,
  };
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
