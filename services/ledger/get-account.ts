import { parseId, timeMsOfUuid, uuidToId } from "#lib/ids.ts";
import { malformed } from "#lib/refusal.ts";
import {
  type Account,
  Account_Kind,
  Account_Status,
  type GetAccountRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";

export async function getAccount(ctx: Context, request: GetAccountRequest): Promise<Account> {
  const parsed = parseAccountId(request.accountId);
  const row = await readAccount(ctx, parsed.uuid, parsed.bucket);
  if (row === undefined) throw refusals.accountNotFound(request.accountId);
  return row;
}

/** The UUID and bucket of an account id. Throws INVALID_ARGUMENT when it is none. */
export function parseAccountId(accountId: string): { uuid: string; bucket: number } {
  const parsed = parseId(accountId, "acct");
  if (parsed === undefined) throw malformed([{ field: "account_id", description: "must be an account id (acct_…)" }]);
  return parsed;
}

/** The account as it is now, or undefined. */
export async function readAccount(ctx: Context, uuid: string, bucket: number): Promise<Account | undefined> {
  const [row] = await readShard<AccountColumns>(ctx, bucket, {
    name: "get-account",
    text: `select ${ACCOUNT_COLUMNS} from ledger.accounts where account_id = $1`,
    values: [uuid],
  });
  return row === undefined ? undefined : toAccount(row);
}

/** Columns of `ledger.accounts` that an answer is made of. */
export const ACCOUNT_COLUMNS = `account_id, owner_id, currency, kind, status, posted_minor_units, held_minor_units,
  floor_minor_units, version, reference, metadata`;

export type AccountColumns = [
  uuid: string,
  ownerId: string,
  currency: string,
  kind: string,
  status: string,
  posted: string,
  held: string,
  floor: string | null,
  version: string,
  reference: string,
  metadata: Record<string, string>,
];

/** An account as the API answers it. */
export function toAccount(row: AccountColumns): Account {
  const [uuid, ownerId, currency, kind, status, posted, held, floor, version, reference, metadata] = row;
  return {
    accountId: uuidToId("acct", uuid),
    ownerId,
    currency,
    kind: Account_Kind[kind as keyof typeof Account_Kind],
    status: Account_Status[status as keyof typeof Account_Status],
    postedMinorUnits: BigInt(posted),
    heldMinorUnits: BigInt(held),
    availableMinorUnits: BigInt(posted) - BigInt(held),
    floorMinorUnits: floor === null ? undefined : BigInt(floor),
    version: BigInt(version),
    reference,
    metadata,
    createTime: new Date(timeMsOfUuid(uuid)),
  };
}
