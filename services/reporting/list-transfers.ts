import type { Call } from "#lib/grpc-server.ts";
import type { TransferDocument } from "#lib/projection.ts";
import { transfer_StateFromJSON } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type {
  HistoryTransfer,
  ListTransfersRequest,
  ListTransfersResponse,
} from "#proto/ledgermesh/reporting/v1/history.ts";
import type { Context } from "#services/reporting/context.ts";
import { parseList } from "#services/reporting/parse-list.ts";
import { searchPage } from "#services/reporting/search-page.ts";

export async function listTransfers(
  ctx: Context,
  request: ListTransfersRequest,
  call: Call,
): Promise<ListTransfersResponse> {
  const { filters, pageSize } = parseList(request);
  const { sources, nextPageToken, hasMore } = await searchPage<TransferDocument>(ctx, call, {
    family: "transfers",
    filters,
    accountField: "account_ids",
    sortFields: ["effective_time", "post_time", "transfer_id"],
    sortValues: (source) => [source.effective_time, source.post_time, source.transfer_id],
    pageSize,
    pageToken: request.pageToken,
  });
  const isOwner = call.principal.role === "USER" || call.principal.role === "MERCHANT";
  const transfers = sources.map(toTransfer);
  return {
    transfers: isOwner ? transfers.map((transfer) => asSeenFrom(request.accountId, transfer)) : transfers,
    nextPageToken,
    hasMore,
  };
}

/** What others had of the same transfer is not the account owner's to know: a cart has several sellers. */
export function asSeenFrom(accountId: string, transfer: HistoryTransfer): HistoryTransfer {
  const postings = transfer.postings.filter(
    ({ debitAccountId, creditAccountId }) => debitAccountId === accountId || creditAccountId === accountId,
  );
  return { ...transfer, postings };
}

export function toTransfer(source: TransferDocument): HistoryTransfer {
  return {
    transferId: source.transfer_id,
    state: transfer_StateFromJSON(source.state),
    type: source.type,
    memo: source.memo,
    postings: source.postings.map((posting) => ({
      debitAccountId: posting.debit_account_id,
      creditAccountId: posting.credit_account_id,
      amountMinorUnits: BigInt(posting.amount_minor_units),
      currency: posting.currency,
    })),
    postTime: new Date(source.post_time),
    effectiveTime: new Date(source.effective_time),
  };
}
