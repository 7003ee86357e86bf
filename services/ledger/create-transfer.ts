import { type Call, idempotencyKeyOf } from "#lib/grpc-server.ts";
import { encodePosition } from "#lib/position.ts";
import type { CreateTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { makeTransfer, toProcessingTransfer, toTransfer } from "#services/ledger/make-transfer.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";

export async function createTransfer(ctx: Context, request: CreateTransferRequest, call: Call): Promise<Transfer> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const { outcome, shard } = await makeTransfer(ctx, {
    parsed: parseTransfer(request),
    caller: call.caller,
    idempotencyKey,
    lane: { name: call.caller, ordered: false },
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
  switch (outcome.kind) {
    case "posted":
      if (outcome.replayed) call.markReplayed();
      call.setPosition(encodePosition([{ shard, number: outcome.eventNumber }]));
      return toTransfer(outcome.transfer);
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      return toProcessingTransfer(outcome.command);
    case "failed":
      throw outcome.error;
  }
}
