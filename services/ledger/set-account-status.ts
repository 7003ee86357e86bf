import { FieldCheck, isLine } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid } from "#lib/ids.ts";
import { encodePosition } from "#lib/position.ts";
import type { Account } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountChange } from "#services/ledger/command.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { parseAccountId, readAccount } from "#services/ledger/get-account.ts";
import { positionOf } from "#services/ledger/make-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";

const MAX_REASON_CHARACTERS = 140;

/** What freezing, unfreezing and closing take. */
export interface AccountChangeRequest {
  readonly accountId: string;
  readonly reason: string;
  readonly idempotencyKey: string;
}

/** Changes the status of an account, and answers the account as it is now. Throws a Refusal. */
export async function setAccountStatus(
  ctx: Context,
  change: AccountChange,
  { accountId, reason, idempotencyKey: keyField }: AccountChangeRequest,
  call: Call,
): Promise<Account> {
  const key = idempotencyKeyOf(call, keyField);
  const { uuid, bucket } = parseAccountId(accountId);
  const check = new FieldCheck();
  check.require(
    isLine(reason, MAX_REASON_CHARACTERS),
    "reason",
    `must be at most ${MAX_REASON_CHARACTERS} characters without control characters`,
  );
  check.done();

  const handle = ctx.shardOfId(accountId);
  const account = { id: accountId, uuid };
  const commandsKey = commandKey({
    bucket,
    caller: call.caller,
    method: `${change}_account`,
    key,
    fingerprint: canonicalHash([accountId, reason]),
    resourceUuid: idToUuid(ctx.newId("xfer", bucket)),
    makes: undefined,
  });
  const outcome = await handle.commands.submit(
    {
      kind: "set_account_status",
      key: commandsKey,
      name: commandsKey.text,
      weight: 1,
      accounts: [account],
      account,
      change,
      reason,
    },
    { name: call.caller, ordered: false },
    performance.now() + COMMAND_TIMEOUT_MS,
  );
  const shard = handle.shard.number;
  switch (outcome.kind) {
    case "done": {
      // It is done: that the account cannot be read afterwards must not look as if it were not.
      const now = await readAccount(ctx, uuid, bucket).catch(() => undefined);
      if (now === undefined) throw refusals.outcomeUnknown(shard);
      const position = positionOf(handle, outcome);
      if (position !== undefined) call.setPosition(encodePosition([position]));
      if (outcome.replayed) call.markReplayed();
      return now;
    }
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      throw refusals.outcomeUnknown(shard);
    case "failed":
      throw outcome.error;
  }
}
