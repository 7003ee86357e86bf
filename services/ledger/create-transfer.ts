import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { malformed } from "#lib/refusal.ts";
import type { CreateTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { answerTransfer, CREATE_TRANSFER, makeTransfer } from "#services/ledger/make-transfer.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";

export async function createTransfer(ctx: Context, request: CreateTransferRequest, call: Call): Promise<Transfer> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  if (request.group !== "") throw malformed([{ field: "group", description: "is for BatchCreateTransfers only" }]);
  const made = await makeTransfer(ctx, {
    parsed: parseTransfer(request),
    caller: call.caller,
    method: CREATE_TRANSFER,
    idempotencyKey,
    lane: { name: call.caller, ordered: false },
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
  return answerTransfer(made, call);
}
