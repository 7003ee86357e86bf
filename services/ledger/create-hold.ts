import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { bucketOfUuid, idToUuid, uuidToId } from "#lib/ids.ts";
import { Refusal } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { CreateHoldRequest, Hold } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { answerHold } from "#services/ledger/answer-hold.ts";
import type { AccountName, CreateHoldCommand } from "#services/ledger/command.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { isHere } from "#services/ledger/cross-shard.ts";
import { refuseAccountOfHold } from "#services/ledger/evaluate-hold.ts";
import { parseCreateHold } from "#services/ledger/parse-hold.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { systemAccount } from "#services/ledger/system-accounts.ts";

const METHOD = "create_hold";

export async function createHold(ctx: Context, request: CreateHoldRequest, call: Call): Promise<Hold> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const { debit, credit: named, amountMinorUnits, currency, expireTimeMs, fingerprint } = parseCreateHold(request);

  const { bucket } = debit;
  const handle = ctx.shardOf(shardOfBucket(ctx.map, bucket));
  const credit = named.kind === "account" ? named : await systemAccount(ctx, handle, named.reference, currency);
  if (credit.uuid === debit.uuid) throw refusals.holdOnItself(debit.id);
  const creditIsHere = isHere(ctx, handle, credit);

  const holdId = ctx.newId("hold", bucket);
  const holdUuid = idToUuid(holdId);
  const key = commandKey({
    bucket,
    caller: call.caller,
    method: METHOD,
    key: idempotencyKey,
    fingerprint,
    resourceUuid: holdUuid,
    makes: "hold",
  });
  const command: CreateHoldCommand = {
    kind: "create_hold",
    key,
    name: key.text,
    weight: 1,
    accounts: creditIsHere ? [debit, credit] : [debit],
    holdId,
    holdUuid,
    bucket,
    debit,
    credit,
    creditIsHere,
    amountMinorUnits,
    currency,
    expireTimeMs,
    refusedElsewhere: creditIsHere ? undefined : await refuseElsewhere(ctx, credit, currency),
  };
  const lane = { name: call.caller, ordered: false };
  const outcome = await handle.commands.submit(command, lane, performance.now() + COMMAND_TIMEOUT_MS);
  return answerHold(ctx, handle, outcome, call, (resourceUuid) => uuidToId("hold", resourceUuid));
}

/** Whether a credit account on another shard can be paid as it is now. Nothing binds it: a capture asks again. */
async function refuseElsewhere(
  ctx: Context,
  { id, uuid }: AccountName,
  wantedCurrency: string,
): Promise<CreateHoldCommand["refusedElsewhere"]> {
  try {
    const [row] = await readShard<[status: string, currency: string, reference: string]>(ctx, bucketOfUuid(uuid), {
      name: "read-credit-account",
      text: "select status, currency, reference from ledger.accounts where account_id = $1",
      values: [uuid],
    });
    if (row === undefined) {
      return { refusal: refusals.postingAccountNotFound(id, "credit_account_id"), remembered: false };
    }
    const [status, currency, reference] = row;
    const refusal = refuseAccountOfHold({ id, status, currency, reference }, wantedCurrency);
    return refusal === undefined ? undefined : { refusal, remembered: true };
  } catch (error) {
    if (error instanceof Refusal) return { refusal: error, remembered: false };
    throw error;
  }
}
