import type { Call } from "#lib/grpc-server.ts";
import type { EntryDocument } from "#lib/projection.ts";
import type { HistoryEntry, ListEntriesRequest, ListEntriesResponse } from "#proto/ledgermesh/reporting/v1/history.ts";
import type { Context } from "#services/reporting/context.ts";
import { parseList } from "#services/reporting/parse-list.ts";
import { searchPage } from "#services/reporting/search-page.ts";

export async function listEntries(ctx: Context, request: ListEntriesRequest, call: Call): Promise<ListEntriesResponse> {
  const { filters, pageSize } = parseList(request);
  const { sources, nextPageToken, hasMore } = await searchPage<EntryDocument>(ctx, call, {
    family: "entries",
    filters,
    accountField: "account_id",
    // Neither time falls within an account, so for one account this is the order of its sequence.
    sortFields: ["effective_time", "post_time", "sequence", "account_id"],
    sortValues: (source) => [source.effective_time, source.post_time, source.sequence, source.account_id],
    pageSize,
    pageToken: request.pageToken,
  });
  return { entries: sources.map(toEntry), nextPageToken, hasMore };
}

export function toEntry(source: EntryDocument): HistoryEntry {
  return {
    accountId: source.account_id,
    sequence: BigInt(source.sequence),
    transferId: source.transfer_id,
    amountMinorUnits: BigInt(source.amount_minor_units),
    balanceAfterMinorUnits: BigInt(source.balance_after_minor_units),
    currency: source.currency,
    type: source.type,
    memo: source.memo,
    counterpartyAccountId: source.counterparty_account_id,
    postTime: new Date(source.post_time),
    effectiveTime: new Date(source.effective_time),
  };
}
