import { checkPageSize, FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { ListAccountsRequest, ListAccountsResponse } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { unownedBucket } from "#services/ledger/create-account.ts";
import { ACCOUNT_COLUMNS, type AccountColumns, toAccount } from "#services/ledger/get-account.ts";
import { checkReference, parseOwnerId } from "#services/ledger/parse-account.ts";
import { readShard } from "#services/ledger/read-shard.ts";

/** Above every account's. */
const LAST_UUID = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/**
 * All accounts of an owner are in one bucket, and their ids sort by the time of their opening: a page begins below the last
 * id of the page before, and what is opened later is above every page. With a reference it is one look-up: a caller's own account
 * is in the bucket that its reference gave it.
 */
export async function listAccounts(
  ctx: Context,
  { ownerId, reference, pageSize, pageToken }: ListAccountsRequest,
  call: Call,
): Promise<ListAccountsResponse> {
  const check = new FieldCheck();
  check.require(
    ownerId !== "" || reference !== "",
    "owner_id",
    "must be given, or reference for the caller's own account",
  );
  const ownerBucket = parseOwnerId(check, "owner_id", ownerId);
  checkReference(check, "reference", reference);
  const size = checkPageSize(check, pageSize);
  check.done();
  const scope = ["ListAccounts", call.caller, ownerId, reference];
  const below = pageToken === "" ? LAST_UUID : (ctx.pageTokens.open(scope, pageToken)[0] as string);

  const bucket = ownerBucket ?? unownedBucket(call.caller, reference);
  // One more than asked for says whether there is a next page.
  const rows =
    reference === ""
      ? await readShard<AccountColumns>(ctx, bucket, {
          name: "list-accounts",
          // The second condition lets Postgres see that the partial index has all of them.
          text: `select ${ACCOUNT_COLUMNS} from ledger.accounts
                  where owner_id = $1 and owner_id <> '' and account_id < $2 order by account_id desc limit $3`,
          values: [ownerId, below, size + 1],
        })
      : await readShard<AccountColumns>(ctx, bucket, {
          name: "find-account",
          text: `select ${ACCOUNT_COLUMNS} from ledger.accounts
                  where (case when owner_id = '' then opened_by else owner_id end) = $1 and reference = $2
                    and reference <> '' and reference not like 'system:%' and owner_id = $3`,
          values: [ownerId === "" ? call.caller : ownerId, reference, ownerId],
        });
  const page = rows.slice(0, size);
  const last = page.at(-1);
  const hasMore = rows.length > size;
  const nextPageToken = hasMore && last !== undefined ? ctx.pageTokens.seal(scope, [last[0]]) : "";
  return { accounts: page.map(toAccount), nextPageToken, hasMore };
}
