import type { EntryLine, LockedAccount, PostedTransfer } from "#services/ledger/transfer.ts";

/**
 * A posted transfer as text: its event (`TransferPosted` of events.proto in Protobuf's JSON form) and its columns. Written by
 * hand because it is done for every transfer: ids, numbers, currencies, types and times need no escaping, and are spliced
 * in; free text goes through JSON.stringify. A test holds it against the generated `TransferPosted.fromJSON`.
 */

/** The event's payload. */
export function encodeTransferPosted(
  transfer: PostedTransfer,
  entries: readonly EntryLine[],
  accounts: readonly LockedAccount[],
): string {
  const postings = transfer.postings.map(
    (posting) =>
      `{"debit_account_id":"${posting.debitAccountId}","credit_account_id":"${posting.creditAccountId}",` +
      `"amount_minor_units":"${posting.amountMinorUnits}","currency":"${posting.currency}"}`,
  );
  const lines = entries.map(
    (entry) =>
      `{"account_id":"${entry.account.id}","sequence":"${entry.sequence}","amount_minor_units":"${entry.amountMinorUnits}",` +
      `"balance_after_minor_units":"${entry.balanceAfterMinorUnits}","currency":"${entry.currency}",` +
      `"counterparty_account_id":"${entry.counterparty.id}","posting_index":${entry.postingIndex}}`,
  );
  const snapshots = accounts.map(
    (account) =>
      `{"account_id":"${account.id}","version":"${account.version}","owner_id":"${account.ownerId}",` +
      `"currency":"${account.currency}","kind":"${account.kind}","status":"${account.status}",` +
      `"posted_minor_units":"${account.postedMinorUnits}","held_minor_units":"${account.heldMinorUnits}"` +
      `${account.floorMinorUnits === undefined ? "" : `,"floor_minor_units":"${account.floorMinorUnits}"`}` +
      `,"reference":${JSON.stringify(account.reference)}}`,
  );
  return (
    `{"transfer_id":"${transfer.transferId}","state":"${transfer.state}","type":"${transfer.type}",` +
    `"memo":${JSON.stringify(transfer.memo)},"metadata":${JSON.stringify(transfer.metadata)},` +
    `"postings":[${postings.join(",")}],"entries":[${lines.join(",")}],"accounts":[${snapshots.join(",")}],` +
    `"post_time":"${rfc3339(transfer.postTimeMs)}","effective_time":"${rfc3339(transfer.effectiveTimeMs)}"}`
  );
}

/** Column `postings`: [[debit id, credit id, amount, currency], …]. */
export function encodePostings(transfer: PostedTransfer): string {
  const rows = transfer.postings.map(
    (posting) =>
      `["${posting.debitAccountId}","${posting.creditAccountId}","${posting.amountMinorUnits}","${posting.currency}"]`,
  );
  return `[${rows.join(",")}]`;
}

/** Column `balances`: [[account id, posted, held, version], …]. */
export function encodeBalances(transfer: PostedTransfer): string {
  const rows = transfer.balances.map(
    (balance) =>
      `["${balance.accountId}","${balance.postedMinorUnits}","${balance.heldMinorUnits}","${balance.version}"]`,
  );
  return `[${rows.join(",")}]`;
}

/** A row of `ledger.transfers` as Postgres answers it: the JSON columns parsed, the times in ms. */
export interface TransferRow {
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly metadata: Record<string, string>;
  readonly postings: [string, string, string, string][];
  readonly balances: [string, string, string, string][];
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
}

/** What the columns say, as it was answered first. */
export function decodeTransfer(transferId: string, row: TransferRow): PostedTransfer {
  return {
    transferId,
    state: row.state,
    type: row.type,
    memo: row.memo,
    metadata: row.metadata,
    postings: row.postings.map(([debitAccountId, creditAccountId, amount, currency]) => ({
      debitAccountId,
      creditAccountId,
      amountMinorUnits: BigInt(amount),
      currency,
    })),
    balances: row.balances.map(([accountId, posted, held, version]) => ({
      accountId,
      postedMinorUnits: BigInt(posted),
      heldMinorUnits: BigInt(held),
      version: BigInt(version),
    })),
    postTimeMs: row.postTimeMs,
    effectiveTimeMs: row.effectiveTimeMs,
  };
}

/** A time in ms since 1970 as RFC 3339 in UTC; the last one is kept, since a batch has one time. */
export function rfc3339(timeMs: number): string {
  if (timeMs !== lastTimeMs) {
    lastTimeMs = timeMs;
    lastText = new Date(timeMs).toISOString();
  }
  return lastText;
}

let lastTimeMs = Number.NaN;
let lastText = "";
