import type { RemoteLeg } from "#services/ledger/remote-leg.ts";
import type {
  BalanceAfter,
  EntryLine,
  LockedAccount,
  PostedTransfer,
  TransferLinks,
} from "#services/ledger/transfer.ts";

/**
 * A posted transfer as text: its event (`TransferPosted` of events.proto in Protobuf's JSON form) and its columns. Written by
 * hand because it is done for every transfer: ids, numbers, currencies, types and times need no escaping, and are spliced
 * in; free text goes through JSON.stringify. A test holds it against the generated `TransferPosted.fromJSON`.
 */

/** The payload of `transfer_posted`. */
export function encodeTransferPosted(
  transfer: PostedTransfer,
  entries: readonly EntryLine[],
  accounts: readonly LockedAccount[],
): string {
  return `{${encodeOrder(transfer)},${encodeEntries(entries)},${encodeAccounts(accounts)},${encodeEnd(transfer)}}`;
}

/** The payload of `transfer_reversed`: the whole transfer again, as it is now. */
export function encodeTransferReversed(transfer: PostedTransfer, postedEventNumber: bigint): string {
  return `{${encodeOrder(transfer)},${encodeEnd(transfer)},"posted_event_number":"${postedEventNumber}"}`;
}

function encodeOrder(transfer: PostedTransfer): string {
  const postings = transfer.postings.map(
    (posting) =>
      `{"debit_account_id":"${posting.debitAccountId}","credit_account_id":"${posting.creditAccountId}",` +
      `"amount_minor_units":"${posting.amountMinorUnits}","currency":"${posting.currency}"}`,
  );
  return (
    `"transfer_id":"${transfer.transferId}","state":"${transfer.state}","type":"${transfer.type}",` +
    `"memo":${JSON.stringify(transfer.memo)},"metadata":${JSON.stringify(transfer.metadata)},` +
    `"postings":[${postings.join(",")}]`
  );
}

function encodeEnd({ postTimeMs, effectiveTimeMs, links }: PostedTransfer): string {
  return `${encodeTimes(postTimeMs, effectiveTimeMs)}${eventLinks(links)}`;
}

/** The payload of `transfer_leg_posted`: what another shard's transfer did on this one. */
export function encodeLegPosted(
  leg: RemoteLeg,
  entries: readonly EntryLine[],
  accounts: readonly LockedAccount[],
  postTimeMs: number,
  effectiveTimeMs: number,
): string {
  return (
    `{"transfer_id":"${leg.transferId}","type":"${leg.type}","memo":${JSON.stringify(leg.memo)},` +
    `${encodeEntries(entries)},${encodeAccounts(accounts)},${encodeTimes(postTimeMs, effectiveTimeMs)}}`
  );
}

function encodeEntries(entries: readonly EntryLine[]): string {
  const lines = entries.map(
    (entry) =>
      `{"account_id":"${entry.account.id}","sequence":"${entry.sequence}","amount_minor_units":"${entry.amountMinorUnits}",` +
      `"balance_after_minor_units":"${entry.balanceAfterMinorUnits}","currency":"${entry.currency}",` +
      `"counterparty_account_id":"${entry.counterparty.id}","posting_index":${entry.postingIndex}}`,
  );
  return `"entries":[${lines.join(",")}]`;
}

function encodeAccounts(accounts: readonly LockedAccount[]): string {
  return `"accounts":[${accounts.map(encodeAccountSnapshot).join(",")}]`;
}

/** `AccountSnapshot`: an account as a command left it. */
export function encodeAccountSnapshot(account: LockedAccount): string {
  return (
    `{"account_id":"${account.id}","version":"${account.version}","owner_id":"${account.ownerId}",` +
    `"currency":"${account.currency}","kind":"${account.kind}","status":"${account.status}",` +
    `"posted_minor_units":"${account.postedMinorUnits}","held_minor_units":"${account.heldMinorUnits}"` +
    `${account.floorMinorUnits === undefined ? "" : `,"floor_minor_units":"${account.floorMinorUnits}"`}` +
    `,"reference":${JSON.stringify(account.reference)}}`
  );
}

function encodeTimes(postTimeMs: number, effectiveTimeMs: number): string {
  return `"post_time":"${rfc3339(postTimeMs)}","effective_time":"${rfc3339(effectiveTimeMs)}"`;
}

function eventLinks(links: TransferLinks | undefined): string {
  return links === undefined ? "" : `,${(encodeLinks(links) as string).slice(1, -1)}`;
}

/** Column `links`; null when there is none. */
export function encodeLinks(links: TransferLinks | undefined): string | null {
  if (links === undefined) return null;
  const { holdId, reversesTransferId, reversesPostingIndexes, quoteId } = links;
  return JSON.stringify({
    hold_id: holdId,
    reverses_transfer_id: reversesTransferId,
    reverses_posting_indexes: reversesPostingIndexes,
    quote_id: quoteId,
  });
}

function decodeLinks(column: LinksColumn | null): TransferLinks | undefined {
  if (column === null) return undefined;
  const { hold_id: holdId, reverses_transfer_id: reversesTransferId, quote_id: quoteId } = column;
  const { reverses_posting_indexes: reversesPostingIndexes } = column;
  return {
    ...(holdId === undefined ? {} : { holdId }),
    ...(reversesTransferId === undefined ? {} : { reversesTransferId }),
    ...(reversesPostingIndexes === undefined ? {} : { reversesPostingIndexes }),
    ...(quoteId === undefined ? {} : { quoteId }),
  };
}

interface LinksColumn {
  readonly hold_id?: string;
  readonly reverses_transfer_id?: string;
  readonly reverses_posting_indexes?: readonly number[];
  readonly quote_id?: string;
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
export function encodeBalances(balances: readonly BalanceAfter[]): string {
  const rows = balances.map(
    (balance) =>
      `["${balance.accountId}","${balance.postedMinorUnits}","${balance.heldMinorUnits}","${balance.version}"]`,
  );
  return `[${rows.join(",")}]`;
}

/** What column `balances` says. */
export function decodeBalances(column: readonly BalanceColumn[]): BalanceAfter[] {
  return column.map(([accountId, posted, held, version]) => ({
    accountId,
    postedMinorUnits: BigInt(posted),
    heldMinorUnits: BigInt(held),
    version: BigInt(version),
  }));
}

export type BalanceColumn = [accountId: string, posted: string, held: string, version: string];

/** A row of `ledger.transfers` as Postgres answers it: the JSON columns parsed, the times in ms. */
export interface TransferRow {
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly metadata: Record<string, string>;
  readonly postings: [string, string, string, string][];
  readonly balances: BalanceColumn[];
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
  readonly links: LinksColumn | null;
}

/** Columns of `ledger.transfers`; `decodeTransferColumns` reads them. */
export const TRANSFER_COLUMNS = `state, type, memo, metadata, postings, balances,
  (extract(epoch from post_time) * 1000)::double precision, (extract(epoch from effective_time) * 1000)::double precision,
  links`;

export type TransferColumns = [
  state: string,
  type: string,
  memo: string,
  metadata: Record<string, string>,
  postings: [string, string, string, string][],
  balances: BalanceColumn[],
  postTimeMs: number,
  effectiveTimeMs: number,
  links: LinksColumn | null,
];

/** What `TRANSFER_COLUMNS` say. */
export function decodeTransferColumns(transferId: string, columns: TransferColumns): PostedTransfer {
  const [state, type, memo, metadata, postings, balances, postTimeMs, effectiveTimeMs, links] = columns;
  return decodeTransfer(transferId, {
    state,
    type,
    memo,
    metadata,
    postings,
    balances,
    postTimeMs,
    effectiveTimeMs,
    links,
  });
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
    balances: decodeBalances(row.balances),
    postTimeMs: row.postTimeMs,
    effectiveTimeMs: row.effectiveTimeMs,
    links: decodeLinks(row.links),
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
