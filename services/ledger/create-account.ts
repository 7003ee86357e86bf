import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { FIRST_PINNED_BUCKET, idToUuid, timeMsOfUuid } from "#lib/ids.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { shardOfBucket } from "#lib/shards.ts";
import {
  type Account,
  Account_Kind,
  Account_Status,
  type CreateAccountRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context } from "#services/ledger/context.ts";
import { readAccount } from "#services/ledger/get-account.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { type ParsedAccountRequest, parseAccountRequest } from "#services/ledger/parse-account.ts";
import { refusals } from "#services/ledger/refusals.ts";

const METHOD = "create_account";

export async function createAccount(ctx: Context, request: CreateAccountRequest, call: Call): Promise<Account> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const check = new FieldCheck();
  const parsed = parseAccountRequest(check, "", request);
  check.done();
  const opened = await openAccount(
    ctx,
    parsed,
    call,
    idempotencyKey,
    { name: call.caller, ordered: false },
    COMMAND_TIMEOUT_MS,
  );
  if (opened.replayed) call.markReplayed();
  call.setPosition(encodePosition([opened.position]));
  return opened.account;
}

export interface OpenedAccount {
  readonly account: Account;
  readonly position: Position;
  readonly replayed: boolean;
}

/** Opens one account, single or of a batch. Throws a Refusal. */
export async function openAccount(
  ctx: Context,
  parsed: ParsedAccountRequest,
  call: Call,
  idempotencyKey: string,
  lane: LaneName,
  timeoutMs: number,
): Promise<OpenedAccount> {
  const { ownerId, currency, kind, floorMinorUnits, reference, metadata, fingerprint } = parsed;
  const bucket = parsed.ownerBucket ?? unownedBucket(call.caller, reference === "" ? idempotencyKey : reference);
  const handle = ctx.shardOf(shardOfBucket(ctx.map, bucket));
  const newId = ctx.newId("acct", bucket);
  const outcome = await handle.accounts.submit(
    {
      key: commandKey({
        bucket,
        caller: call.caller,
        method: METHOD,
        key: idempotencyKey,
        fingerprint,
        resourceUuid: idToUuid(newId),
        makes: "acct",
      }),
      accountId: newId,
      bucket,
      ownerId,
      currency,
      kind,
      floorMinorUnits,
      reference,
      metadata,
    },
    lane,
    performance.now() + timeoutMs,
  );
  const shard = handle.shard.number;
  switch (outcome.kind) {
    case "opened": {
      const { replayed, eventNumber, accountId } = outcome;
      const uuid = idToUuid(accountId);
      // A replay has the first answer's balances, and the status of now.
      const now = replayed
        ? await readAccount(ctx, uuid, bucket).catch(() => Promise.reject(refusals.outcomeUnknown(shard)))
        : undefined;
      const account: Account = {
        accountId,
        ownerId,
        currency,
        kind: Account_Kind[kind],
        status: now?.status ?? Account_Status.ACTIVE,
        postedMinorUnits: 0n,
        heldMinorUnits: 0n,
        availableMinorUnits: 0n,
        floorMinorUnits,
        version: 1n,
        reference,
        metadata: { ...metadata },
        createTime: new Date(timeMsOfUuid(uuid)),
      };
      return { account, replayed, position: { shard, number: eventNumber } };
    }
    case "reference_used":
      throw refusals.referenceAlreadyUsed(reference);
    case "failed":
      throw outcome.error;
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      throw refusals.outcomeUnknown(shard);
  }
}

/** Where what has no owner lives: by its caller and its name, so that a retry finds the same place. */
export function unownedBucket(caller: string, name: string): number {
  return canonicalHash([caller, name]).readUInt32BE(0) % FIRST_PINNED_BUCKET;
}
