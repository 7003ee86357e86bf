import { uuidToId } from "#lib/ids.ts";
import { plainArray, textArray } from "#lib/sql-arrays.ts";
import { type BalanceColumn, decodeBalances, encodeBalances, rfc3339 } from "#services/ledger/encode-transfer.ts";
import type { LegState, LockedLeg } from "#services/ledger/remote-leg.ts";

/** Rows of `ledger.remote_legs`: read under a lock or without, and written by write-legs.sql. */
export const LEG_COLUMNS = `transfer_id, posting_index, bucket, debit_account_id, credit_account_id, debit_is_here,
  credit_is_here, amount_minor_units, currency, type, memo, extract(epoch from effective_time)::double precision * 1000,
  state, balances, event_number`;

export type LegRow = [
  transferUuid: string,
  postingIndex: number,
  bucket: number,
  debitUuid: string,
  creditUuid: string,
  debitIsHere: boolean,
  creditIsHere: boolean,
  amount: string,
  currency: string,
  type: string,
  memo: string,
  effectiveTimeMs: number | null,
  state: LegState,
  balances: BalanceColumn[] | null,
  eventNumber: string | null,
];

export function toLockedLeg(row: LegRow): LockedLeg {
  const [transferUuid, postingIndex, bucket, debitUuid, creditUuid, debitIsHere, creditIsHere, amount, ...rest] = row;
  const [currency, type, memo, effectiveTimeMs, state, balances, eventNumber] = rest;
  return {
    transferId: uuidToId("xfer", transferUuid),
    transferUuid,
    postingIndex,
    bucket,
    debit: { id: uuidToId("acct", debitUuid), uuid: debitUuid },
    credit: { id: uuidToId("acct", creditUuid), uuid: creditUuid },
    debitIsHere,
    creditIsHere,
    amountMinorUnits: BigInt(amount),
    currency,
    type,
    memo,
    effectiveTimeMs: effectiveTimeMs ?? undefined,
    state,
    balances: balances === null ? [] : decodeBalances(balances),
    event: eventNumber === null ? undefined : BigInt(eventNumber),
    row: "unchanged",
  };
}

/** The parameters of `ledger.write_legs`, in its order, the count of the batch's events aside. */
export function legColumns(legs: readonly LockedLeg[]): string[] {
  return [
    plainArray(legs.map(({ row }) => String(row === "new"))),
    plainArray(legs.map(({ transferUuid }) => transferUuid)),
    plainArray(legs.map(({ postingIndex }) => postingIndex)),
    plainArray(legs.map(({ bucket }) => bucket)),
    plainArray(legs.map(({ debit }) => debit.uuid)),
    plainArray(legs.map(({ credit }) => credit.uuid)),
    plainArray(legs.map(({ debitIsHere }) => String(debitIsHere))),
    plainArray(legs.map(({ creditIsHere }) => String(creditIsHere))),
    plainArray(legs.map(({ amountMinorUnits }) => amountMinorUnits)),
    plainArray(legs.map(({ currency }) => currency)),
    textArray(legs.map(({ type }) => type)),
    textArray(legs.map(({ memo }) => memo)),
    textArray(legs.map(({ effectiveTimeMs }) => (effectiveTimeMs === undefined ? null : rfc3339(effectiveTimeMs)))),
    plainArray(legs.map(({ state }) => state)),
    textArray(legs.map(({ balances }) => (balances.length === 0 ? null : encodeBalances(balances)))),
    textArray(legs.map(({ event }) => (typeof event === "object" ? event.ordinal.toString() : null))),
  ];
}
