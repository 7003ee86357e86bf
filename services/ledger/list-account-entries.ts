import { checkPageSize, FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { uuidToId } from "#lib/ids.ts";
import type {
  Entry,
  ListAccountEntriesRequest,
  ListAccountEntriesResponse,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { parseAccountId, readAccount } from "#services/ledger/get-account.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";

/**
 * A page begins below a (post_time, sequence): it starts in the right month's partition and walks back, and an entry that
 * arrives later is above every page.
 */
export async function listAccountEntries(
  ctx: Context,
  request: ListAccountEntriesRequest,
  call: Call,
): Promise<ListAccountEntriesResponse> {
  const { uuid, bucket } = parseAccountId(request.accountId);
  const check = new FieldCheck();
  const pageSize = checkPageSize(check, request.pageSize);
  check.done();
  const scope = ["ListAccountEntries", call.caller, request.accountId];
  const cursor = request.pageToken === "" ? ["infinity", "0"] : ctx.pageTokens.open(scope, request.pageToken);

  // One more than asked for says whether there is a next page.
  const rows = await readShard<EntryColumns>(ctx, bucket, {
    name: "list-account-entries",
    text: `select e.sequence, e.transfer_id, e.amount_minor_units, e.balance_after_minor_units, e.currency,
                  coalesce(t.type, l.type), coalesce(t.memo, l.memo), e.counterparty_account_id,
                  extract(epoch from e.post_time) * 1000, extract(epoch from e.effective_time) * 1000, e.post_time::text
             from ledger.entries e left join ledger.transfers t using (transfer_id)
             -- Of a transfer from another shard, this one has the legs.
             left join lateral (select type, memo from ledger.remote_legs l
                                 where l.transfer_id = e.transfer_id and t.transfer_id is null limit 1) l on true
            where e.account_id = $1 and e.post_time <= $2 and (e.post_time, e.sequence) < ($2, $3)
            order by e.post_time desc, e.sequence desc limit $4`,
    values: [uuid, cursor[0], cursor[1], pageSize + 1],
  });
  // Without entries, the account may be unknown.
  if (rows.length === 0 && (await readAccount(ctx, uuid, bucket)) === undefined) {
    throw refusals.accountNotFound(request.accountId);
  }
  const page = rows.slice(0, pageSize);
  const last = page.at(-1);
  const hasMore = rows.length > pageSize;
  const nextPageToken = hasMore && last !== undefined ? ctx.pageTokens.seal(scope, [last[10], last[0]]) : "";
  return { entries: page.map(toEntry), nextPageToken, hasMore };
}

type EntryColumns = [
  sequence: string,
  transferUuid: string,
  amount: string,
  balanceAfter: string,
  currency: string,
  type: string,
  memo: string,
  counterpartyUuid: string,
  postTimeMs: string,
  effectiveTimeMs: string,
  postTimeText: string,
];

function toEntry(row: EntryColumns): Entry {
  const [
    sequence,
    transferUuid,
    amount,
    balanceAfter,
    currency,
    type,
    memo,
    counterpartyUuid,
    postTimeMs,
    effectiveTimeMs,
  ] = row;
  return {
    sequence: BigInt(sequence),
    transferId: uuidToId("xfer", transferUuid),
    amountMinorUnits: BigInt(amount),
    balanceAfterMinorUnits: BigInt(balanceAfter),
    currency,
    type,
    memo,
    counterpartyAccountId: uuidToId("acct", counterpartyUuid),
    postTime: new Date(Number(postTimeMs)),
    effectiveTime: new Date(Number(effectiveTimeMs)),
  };
}
