import type { Client } from "pg";
import { uuidToId } from "#lib/ids.ts";
import { bytesArray, plainArray } from "#lib/sql-arrays.ts";
import { keyColumns, keyText, type RefusalJson } from "#services/ledger/command-key.ts";
import { decodeTransfer } from "#services/ledger/encode-transfer.ts";
import type { LockedAccount, PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";

/** The first round trip of a batch: begin, keys, locks and the clock; and what became of the keys that were not free. */
export interface LockedBatch {
  /** UUIDs of the transfers whose keys were free. */
  readonly claimed: ReadonlySet<string>;
  readonly accounts: ReadonlyMap<string, LockedAccount>;
  /** By `keyText`: what became of the commands whose keys were not free. */
  readonly known: ReadonlyMap<string, KnownKey>;
  readonly nowMs: number;
}

export interface KnownKey {
  readonly fingerprint: Buffer;
  readonly transferUuid: string;
  /** One of the two; neither when the key is from a command of another kind of outcome. */
  readonly refusal: RefusalJson | null;
  readonly posted: { readonly transfer: PostedTransfer; readonly eventNumber: bigint } | undefined;
}

/** Begins a transaction and leaves it open, with the batch's keys taken and its accounts locked. */
export async function lockBatch(db: Client, commands: readonly TransferCommand[]): Promise<LockedBatch> {
  const byKey = commands
    .map((command) => ({ command, text: keyText(command) }))
    .sort((a, b) => (a.text < b.text ? -1 : 1))
    .map(({ command }) => command);
  const names = new Map<string, string>();
  for (const { postings } of commands) {
    for (const { debit, credit } of postings) names.set(debit.uuid, debit.id).set(credit.uuid, credit.id);
  }
  const [, claimed, locked, clock] = await Promise.all([
    db.query("begin"),
    db.query<[string]>({
      name: "claim-keys",
      text: "select ledger.claim_keys($1, $2, $3, $4, $5, $6)",
      values: [
        ...keyColumns(byKey),
        bytesArray(byKey.map(({ key }) => key.fingerprint)),
        plainArray(byKey.map((c) => c.transferUuid)),
      ],
      rowMode: "array",
    }),
    db.query<AccountRow>({
      name: "lock-accounts",
      text: "select * from ledger.lock_accounts($1)",
      values: [plainArray([...names.keys()])],
      rowMode: "array",
    }),
    db.query<[number]>({
      name: "clock",
      text: "select floor(extract(epoch from clock_timestamp()) * 1000)::double precision",
      rowMode: "array",
    }),
  ]);
  const claimedUuids = new Set(claimed.rows.map(([uuid]) => uuid));
  const accounts = new Map(
    locked.rows.map((row) => toLockedAccount(row, names)).map((account) => [account.id, account]),
  );
  const taken = byKey.filter((command) => !claimedUuids.has(command.transferUuid));
  return {
    claimed: claimedUuids,
    accounts,
    known: taken.length === 0 ? NO_KNOWN_KEYS : await readKnownKeys(db, taken),
    nowMs: clock.rows[0]?.[0] as number,
  };
}

const NO_KNOWN_KEYS: ReadonlyMap<string, KnownKey> = new Map();

type AccountRow = [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string | null,
  string,
  string,
  number,
  number,
  string,
];

function toLockedAccount(row: AccountRow, names: ReadonlyMap<string, string>): LockedAccount {
  const [
    uuid,
    ownerId,
    currency,
    kind,
    status,
    posted,
    held,
    floor,
    version,
    entrySequence,
    lastPost,
    lastEffective,
    reference,
  ] = row;
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
    entrySequence: BigInt(entrySequence),
    lastPostTimeMs: lastPost,
    lastEffectiveTimeMs: lastEffective,
    reference,
    touched: false,
  };
}

type KnownKeyRow = [
  bucket: number,
  caller: string,
  method: string,
  key: string,
  fingerprint: Buffer,
  transferUuid: string,
  refusal: RefusalJson | null,
  state: string | null,
  type: string,
  memo: string,
  metadata: Record<string, string>,
  postings: [string, string, string, string][],
  balances: [string, string, string, string][],
  postTimeMs: number,
  effectiveTimeMs: number,
  eventNumber: string,
];

async function readKnownKeys(db: Client, commands: readonly TransferCommand[]): Promise<Map<string, KnownKey>> {
  const { rows } = await db.query<KnownKeyRow>({
    name: "read-transfer-keys",
    text: "select * from ledger.read_transfer_keys($1, $2, $3, $4)",
    values: keyColumns(commands),
    rowMode: "array",
  });
  return new Map(rows.map((row) => [row.slice(0, 4).join(" "), toKnownKey(row)]));
}

function toKnownKey(row: KnownKeyRow): KnownKey {
  const [, , , , fingerprint, transferUuid, refusal, state, type, memo, metadata, postings, balances, ...rest] = row;
  const [postTimeMs, effectiveTimeMs, eventNumber] = rest;
  if (state === null) return { fingerprint, transferUuid, refusal, posted: undefined };
  const columns = { state, type, memo, metadata, postings, balances, postTimeMs, effectiveTimeMs };
  const transfer = decodeTransfer(uuidToId("xfer", transferUuid), columns);
  return { fingerprint, transferUuid, refusal, posted: { transfer, eventNumber: BigInt(eventNumber) } };
}
