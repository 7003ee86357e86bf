import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid } from "#lib/ids.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { Hold, VoidHoldRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { answerHold } from "#services/ledger/answer-hold.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { readHold } from "#services/ledger/get-hold.ts";
import { parseHoldId } from "#services/ledger/parse-hold.ts";

const METHOD = "void_hold";

export async function voidHold(ctx: Context, request: VoidHoldRequest, call: Call): Promise<Hold> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const { id: holdId, uuid, bucket } = parseHoldId(request.holdId);

  // Only for the account that is to be locked, which never changes.
  const { debit } = await readHold(ctx, { id: holdId, uuid, bucket });
  const handle = ctx.shardOf(shardOfBucket(ctx.map, bucket));
  const key = commandKey({
    bucket,
    caller: call.caller,
    method: METHOD,
    key: idempotencyKey,
    fingerprint: canonicalHash([holdId]),
    // An id of its own: what it changes is there already.
    resourceUuid: idToUuid(ctx.newId("hold", bucket)),
    makes: undefined,
  });
  const outcome = await handle.commands.submit(
    { kind: "void_hold", key, name: key.text, weight: 1, accounts: [debit], holdId },
    { name: call.caller, ordered: false },
    performance.now() + COMMAND_TIMEOUT_MS,
  );
  return answerHold(ctx, handle, outcome, call, () => holdId);
}
