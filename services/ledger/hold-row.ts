import { uuidToId } from "#lib/ids.ts";
import { plainArray } from "#lib/sql-arrays.ts";
import { rfc3339 } from "#services/ledger/encode-transfer.ts";
import type { HoldState, LockedHold } from "#services/ledger/hold.ts";

/** Rows of `ledger.holds`: read under a lock or without, and written by write-holds.sql. */
export const HOLD_COLUMNS = `hold_id, bucket, debit_account_id, credit_account_id, amount_minor_units, currency,
  (extract(epoch from expire_time) * 1000)::double precision, (extract(epoch from create_time) * 1000)::double precision,
  captured_minor_units, state, version`;

export type HoldRow = [
  holdUuid: string,
  bucket: number,
  debitUuid: string,
  creditUuid: string,
  amount: string,
  currency: string,
  expireTimeMs: number,
  createTimeMs: number,
  captured: string,
  state: HoldState,
  version: string,
];

export function toLockedHold(row: HoldRow): LockedHold {
  const [holdUuid, bucket, debitUuid, creditUuid, amount, currency, expireTimeMs, createTimeMs, ...rest] = row;
  const [captured, state, version] = rest;
  return {
    holdId: uuidToId("hold", holdUuid),
    holdUuid,
    bucket,
    debit: { id: uuidToId("acct", debitUuid), uuid: debitUuid },
    credit: { id: uuidToId("acct", creditUuid), uuid: creditUuid },
    amountMinorUnits: BigInt(amount),
    currency,
    expireTimeMs,
    createTimeMs,
    capturedMinorUnits: BigInt(captured),
    state,
    version: BigInt(version),
    row: "unchanged",
  };
}

/** The parameters of `ledger.write_holds`, in its order. */
export function holdColumns(holds: readonly LockedHold[]): string[] {
  return [
    plainArray(holds.map(({ row }) => String(row === "new"))),
    plainArray(holds.map(({ holdUuid }) => holdUuid)),
    plainArray(holds.map(({ bucket }) => bucket)),
    plainArray(holds.map(({ debit }) => debit.uuid)),
    plainArray(holds.map(({ credit }) => credit.uuid)),
    plainArray(holds.map(({ amountMinorUnits }) => amountMinorUnits)),
    plainArray(holds.map(({ capturedMinorUnits }) => capturedMinorUnits)),
    plainArray(holds.map(({ currency }) => currency)),
    plainArray(holds.map(({ state }) => state)),
    plainArray(holds.map(({ version }) => version)),
    plainArray(holds.map(({ expireTimeMs }) => rfc3339(expireTimeMs))),
    plainArray(holds.map(({ createTimeMs }) => rfc3339(createTimeMs))),
  ];
}
