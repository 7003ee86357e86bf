import type { LockedAccount } from "#services/ledger/transfer.ts";

/** A row of `ledger.accounts` as a batch works with it: what `ledger.lock_accounts` and `ledger.read_accounts` answer. */
export type AccountRow = [
  uuid: string,
  ownerId: string,
  currency: string,
  kind: string,
  status: string,
  posted: string,
  held: string,
  floor: string | null,
  version: string,
  entrySequence: string,
  lastPostTimeMs: number,
  lastEffectiveTimeMs: number,
  reference: string,
  preparedDebit: string,
  preparedCredit: string,
];

/** `names`: the ids of the UUIDs. */
export function toLockedAccount(row: AccountRow, names: ReadonlyMap<string, string>): LockedAccount {
  const [uuid, ownerId, currency, kind, status, posted, held, floor, version, sequence, lastPost, lastEffective] = row;
  const [, , , , , , , , , , , , reference, preparedDebit, preparedCredit] = row;
  return {
    id: names.get(uuid) as string,
    uuid,
    ownerId,
    currency,
    kind,
    status,
    postedMinorUnits: BigInt(posted),
    heldMinorUnits: BigInt(held),
    floorMinorUnits: floor === null ? undefined : BigInt(floor),
    version: BigInt(version),
    entrySequence: BigInt(sequence),
    lastPostTimeMs: lastPost,
    lastEffectiveTimeMs: lastEffective,
    reference,
    preparedDebitMinorUnits: BigInt(preparedDebit),
    preparedCreditMinorUnits: BigInt(preparedCredit),
    touched: false,
  };
}
