import type { Conversion } from "#lib/exchange.ts";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import { plainArray, textArray } from "#lib/sql-arrays.ts";
import { rfc3339 } from "#services/ledger/encode-transfer.ts";

/** A quote stands so long, by the clock of its shard. */
export const QUOTE_LIFETIME_MS = 30_000;

/**
 * What a client was promised: `ledger.quotes`. The amounts never change. Its time being over is no state: it is found when
 * somebody wants to use it.
 *
 *   OPEN -> USED               by a conversion whose payer is on this shard: in the transfer's own commit
 *   OPEN -> RESERVED           by a conversion whose payer is on another shard, before that shard decides
 *   RESERVED -> USED | OPEN    that shard has committed; it has not, and never will
 */
export interface LockedQuote extends Conversion {
  readonly quoteId: string;
  readonly quoteUuid: string;
  readonly bucket: number;
  /** Who may use it. */
  readonly caller: string;
  /** Who alone may pay; undefined: anybody. */
  readonly debitAccountId: string | undefined;
  /** The client's, as it was shown. */
  readonly rate: string;
  readonly createdAtMs: number;
  readonly expireTimeMs: number;
  state: "OPEN" | "RESERVED" | "USED";
  /** That has reserved or used it. */
  transferId: string | undefined;
  /** What the batch has to do with its row. */
  row: "unchanged" | "new" | "changed";
}

/** What a conversion has to say for itself where its quote is. */
export interface QuoteClaim {
  readonly quoteId: string;
  readonly transferId: string;
  readonly caller: string;
  /** Who pays. */
  readonly debitAccountId: string;
}

/** Rows of `ledger.quotes`: read under a lock or without, and written by write-quotes.sql. */
export const QUOTE_COLUMNS = `quote_id, bucket, caller, debit_account_id, rate, sell_currency, sell_minor_units,
  buy_currency, buy_minor_units, residue_minor_units, extract(epoch from created_at)::double precision * 1000,
  extract(epoch from expire_time)::double precision * 1000, state, transfer_id`;

export type QuoteRow = [
  quoteUuid: string,
  bucket: number,
  caller: string,
  debitUuid: string | null,
  rate: string,
  sellCurrency: string,
  sell: string,
  buyCurrency: string,
  buy: string,
  residue: string,
  createdAtMs: number,
  expireTimeMs: number,
  state: LockedQuote["state"],
  transferUuid: string | null,
];

export function toLockedQuote(row: QuoteRow): LockedQuote {
  const [quoteUuid, bucket, caller, debitUuid, rate, sellCurrency, sell, buyCurrency, buy, residue, ...rest] = row;
  const [createdAtMs, expireTimeMs, state, transferUuid] = rest;
  return {
    quoteId: uuidToId("quot", quoteUuid),
    quoteUuid,
    bucket,
    caller,
    debitAccountId: debitUuid === null ? undefined : uuidToId("acct", debitUuid),
    rate,
    sellCurrency,
    sellMinorUnits: BigInt(sell),
    buyCurrency,
    buyMinorUnits: BigInt(buy),
    residueMinorUnits: BigInt(residue),
    createdAtMs,
    expireTimeMs,
    state,
    transferId: transferUuid === null ? undefined : uuidToId("xfer", transferUuid),
    row: "unchanged",
  };
}

/** The parameters of `ledger.write_quotes`, in its order. */
export function quoteColumns(quotes: readonly LockedQuote[]): string[] {
  return [
    plainArray(quotes.map(({ row }) => String(row === "new"))),
    plainArray(quotes.map(({ quoteUuid }) => quoteUuid)),
    plainArray(quotes.map(({ bucket }) => bucket)),
    textArray(quotes.map(({ caller }) => caller)),
    textArray(quotes.map(({ debitAccountId }) => uuidOrNull(debitAccountId))),
    plainArray(quotes.map(({ rate }) => rate)),
    plainArray(quotes.map(({ sellCurrency }) => sellCurrency)),
    plainArray(quotes.map(({ sellMinorUnits }) => sellMinorUnits)),
    plainArray(quotes.map(({ buyCurrency }) => buyCurrency)),
    plainArray(quotes.map(({ buyMinorUnits }) => buyMinorUnits)),
    plainArray(quotes.map(({ residueMinorUnits }) => residueMinorUnits)),
    plainArray(quotes.map(({ createdAtMs }) => rfc3339(createdAtMs))),
    plainArray(quotes.map(({ expireTimeMs }) => rfc3339(expireTimeMs))),
    plainArray(quotes.map(({ state }) => state)),
    textArray(quotes.map(({ transferId }) => uuidOrNull(transferId))),
  ];
}

function uuidOrNull(id: string | undefined): string | null {
  return id === undefined ? null : idToUuid(id);
}
