import type { Client } from "pg";
import { bucketOfUuid, idToUuid, uuidToId } from "#lib/ids.ts";
import { plainArray } from "#lib/sql-arrays.ts";
import { type AccountRow, toLockedAccount } from "#services/ledger/account-row.ts";
import type { Batch, Decision } from "#services/ledger/batch.ts";
import type { CommandKey, LedgerCommand, SingleCommand } from "#services/ledger/command.ts";
import { claimColumns, keyColumns, keyText, type RefusalJson } from "#services/ledger/command-key.ts";
import {
  type BalanceColumn,
  decodeTransfer,
  decodeTransferColumns,
  TRANSFER_COLUMNS,
  type TransferColumns,
} from "#services/ledger/encode-transfer.ts";
import type { LockedHold } from "#services/ledger/hold.ts";
import { HOLD_COLUMNS, type HoldRow, toLockedHold } from "#services/ledger/hold-row.ts";
import { type LockedQuote, QUOTE_COLUMNS, type QuoteRow, toLockedQuote } from "#services/ledger/quote.ts";
import { pairOf, readRates } from "#services/ledger/rate.ts";
import {
  postingName,
  REFUND_COLUMNS,
  type RefundedPosting,
  type RefundRow,
  toRefundedPosting,
} from "#services/ledger/refunded-posting.ts";
import type { LockedLeg } from "#services/ledger/remote-leg.ts";
import { LEG_COLUMNS, type LegRow, toLockedLeg } from "#services/ledger/remote-leg-row.ts";
import type { OriginalTransfer } from "#services/ledger/reversal.ts";
import type { LockedAccount, PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";

/**
 * The first round trip of a batch: begin, keys, locks and the clock; and what became of the keys that were not free.
 *
 * Everything is locked in one order by everybody, so that two batches cannot deadlock: keys, decisions, holds, transfers that
 * are taken back, quotes, legs, accounts, each sorted; the head of the event log comes last, when the batch is written
 * (post-transfers.sql).
 */
export interface LockedBatch {
  readonly batch: Batch;
  /** By the text of the key: those that were free. */
  readonly claimed: Pick<ReadonlySet<string>, "has">;
  /** By the text of the key: what became of the commands whose keys were not free. */
  readonly known: ReadonlyMap<string, KnownKey>;
}

export interface KnownKey {
  readonly fingerprint: Buffer;
  readonly resourceUuid: string;
  readonly refusal: RefusalJson | null;
  /** The transfer that the command made; undefined when it made something else, or was refused. */
  readonly transfer: PostedTransfer | undefined;
  readonly eventNumber: bigint | undefined;
}

/** The keys that commands take, in the order in which everybody takes them. */
export function sortedKeys(commands: readonly SingleCommand[]): CommandKey[] {
  return commands.flatMap(({ key }) => (key === undefined ? [] : [key])).sort((a, b) => (a.text < b.text ? -1 : 1));
}

/** The accounts that commands work with: ids by their UUIDs. */
export function accountNames(commands: readonly SingleCommand[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const { accounts } of commands) for (const { uuid, id } of accounts) names.set(uuid, id);
  return names;
}

/** A batch in which nothing has been decided yet. */
export function emptyBatch(nowMs: number, accounts: readonly LockedAccount[]): Batch {
  return {
    nowMs,
    accounts: new Map(accounts.map((account) => [account.id, account])),
    decisions: new Map(),
    holds: new Map(),
    quotes: new Map(),
    legs: new Map(),
    rates: new Map(),
    newRates: [],
    refunds: new Map(),
    originals: new Map(),
    transfers: [],
    entries: [],
    events: [],
  };
}

/** Begins a transaction and leaves it open, with the batch's keys taken and its rows locked. */
export async function lockBatch(db: Client, batchCommands: readonly LedgerCommand[]): Promise<LockedBatch> {
  const commands = singleCommands(batchCommands);
  const keys = sortedKeys(commands);
  const names = accountNames(commands);
  const needs = commands.map(needsOf).filter((need) => need !== NOTHING);
  const [, claimed, decisions, holds, originals, quotes, legs, rates, locked, refunds, clock] = await Promise.all([
    db.query("begin"),
    claimKeys(db, keys),
    lockDecisions(db, defined(needs.map(({ decisionOf }) => decisionOf))),
    lockHolds(db, defined(needs.map(({ holdOf }) => holdOf))),
    lockOriginals(db, defined(needs.map(({ originalOf }) => originalOf))),
    lockQuotes(db, defined(needs.map(({ quoteOf }) => quoteOf))),
    lockLegs(db, defined(needs.map(({ legsOf }) => legsOf))),
    readRates(db, [...new Set(defined(needs.map(({ rateOf }) => rateOf)))]),
    db.query<AccountRow>({
      name: "lock-accounts",
      text: "select * from ledger.lock_accounts($1)",
      values: [plainArray([...names.keys()])],
      rowMode: "array",
    }),
    readRefunds(db, defined(needs.map(({ refundsOf }) => refundsOf))),
    db.query<[number]>({
      name: "clock",
      text: "select floor(extract(epoch from clock_timestamp()) * 1000)::double precision",
      rowMode: "array",
    }),
  ]);
  const taken = keys.filter(({ text }) => !claimed.has(text));
  const nowMs = clock.rows[0]?.[0] as number;
  const accounts = locked.rows.map((row) => toLockedAccount(row, names));
  const batch: Batch = { ...emptyBatch(nowMs, accounts), decisions, holds, quotes, legs, rates, refunds, originals };
  return { batch, claimed, known: taken.length === 0 ? new Map() : await readKnownKeys(db, taken) };
}

/** The commands with the members of groups in their place. */
export function singleCommands(commands: readonly LedgerCommand[]): readonly SingleCommand[] {
  return commands.every(isSingle)
    ? commands
    : commands.flatMap<SingleCommand>((command) => (command.kind === "group" ? command.members : [command]));
}

function isSingle(command: LedgerCommand): command is SingleCommand {
  return command.kind !== "group";
}

/** Rows beside accounts that a command may read or write, by their ids. */
interface Needs {
  readonly decisionOf?: string;
  readonly holdOf?: string;
  readonly quoteOf?: string;
  readonly legsOf?: string;
  readonly rateOf?: string;
  readonly originalOf?: string;
  readonly refundsOf?: string;
}

function needsOf(command: SingleCommand): Needs {
  switch (command.kind) {
    case "transfer":
      return needsOfTransfer(command);
    case "abort_transfer":
    case "close_decision":
      return { decisionOf: command.transferId };
    case "prepare_legs":
    case "post_legs":
    case "release_legs": {
      const quoteOf = command.kind === "prepare_legs" ? command.quote?.quoteId : command.quoteId;
      return quoteOf === undefined ? { legsOf: command.transferId } : { legsOf: command.transferId, quoteOf };
    }
    case "set_account_status":
    case "set_rates":
    case "create_hold":
      return NOTHING;
    case "create_quote":
      return { rateOf: pairOf(command.sellCurrency, command.buyCurrency) };
    case "void_hold":
    case "expire_hold":
      return { holdOf: command.holdId };
    case "note_reversed":
      return { originalOf: command.transferId };
    case "close_refunds":
      return { refundsOf: command.transferId };
  }
}

function needsOfTransfer({ crossShard, transferId, capture, reversal, quote }: TransferCommand): Needs {
  if (!crossShard && capture === undefined && reversal === undefined && quote === undefined) return NOTHING;
  return {
    ...(crossShard ? { decisionOf: transferId } : {}),
    ...(capture === undefined ? {} : { holdOf: capture.holdId }),
    ...(quote?.isHere === true ? { quoteOf: quote.claim.quoteId } : {}),
    ...(reversal === undefined ? {} : { refundsOf: reversal.originalId }),
    ...(reversal?.cameFromElsewhere === true ? { legsOf: reversal.originalId } : {}),
  };
}

const NOTHING: Needs = {};

/** Whether a command works with accounts and keys alone, and holds no time that it was given against the clock. */
export function needsAccountsOnly(command: SingleCommand): boolean {
  switch (command.kind) {
    case "transfer":
      return command.effectiveTimeMs === undefined && needsOf(command) === NOTHING;
    case "create_hold":
      return command.expireTimeMs === undefined;
    case "set_rates":
      return false;
    default:
      return needsOf(command) === NOTHING;
  }
}

function defined(ids: readonly (string | undefined)[]): string[] {
  return ids.filter((id) => id !== undefined);
}

async function claimKeys(db: Client, keys: readonly CommandKey[]): Promise<ReadonlySet<string>> {
  if (keys.length === 0) return new Set();
  const { rows } = await db.query<[string]>({
    name: "claim-keys",
    text: "select ledger.claim_keys($1, $2, $3, $4, $5, $6)",
    values: claimColumns(keys),
    rowMode: "array",
  });
  return new Set(rows.map(([text]) => text));
}

async function lockDecisions(db: Client, transferIds: readonly string[]): Promise<Map<string, Decision>> {
  if (transferIds.length === 0) return new Map();
  const { rows } = await db.query<[string, Decision["state"]]>({
    name: "lock-decisions",
    text: `select transfer_id, state from ledger.decisions where transfer_id = any ($1) order by transfer_id for update`,
    values: [plainArray(transferIds.map(idToUuid))],
    rowMode: "array",
  });
  return new Map(
    rows.map(([transferUuid, state]) => [
      uuidToId("xfer", transferUuid),
      { transferUuid, bucket: bucketOfUuid(transferUuid), state, row: "unchanged" },
    ]),
  );
}

async function lockHolds(db: Client, holdIds: readonly string[]): Promise<Map<string, LockedHold>> {
  if (holdIds.length === 0) return new Map();
  const { rows } = await db.query<HoldRow>({
    name: "lock-holds",
    text: `select ${HOLD_COLUMNS} from ledger.holds where hold_id = any ($1) order by hold_id for update`,
    values: [plainArray(holdIds.map(idToUuid))],
    rowMode: "array",
  });
  return new Map(rows.map(toLockedHold).map((hold) => [hold.holdId, hold]));
}

async function lockQuotes(db: Client, quoteIds: readonly string[]): Promise<Map<string, LockedQuote>> {
  if (quoteIds.length === 0) return new Map();
  const { rows } = await db.query<QuoteRow>({
    name: "lock-quotes",
    text: `select ${QUOTE_COLUMNS} from ledger.quotes where quote_id = any ($1) order by quote_id for update`,
    values: [plainArray(quoteIds.map(idToUuid))],
    rowMode: "array",
  });
  return new Map(rows.map(toLockedQuote).map((quote) => [quote.quoteId, quote]));
}

async function lockLegs(db: Client, transferIds: readonly string[]): Promise<Map<string, LockedLeg[]>> {
  const legs = new Map<string, LockedLeg[]>();
  if (transferIds.length === 0) return legs;
  const { rows } = await db.query<LegRow>({
    name: "lock-legs",
    text: `select ${LEG_COLUMNS} from ledger.remote_legs where transfer_id = any ($1)
            order by transfer_id, posting_index, bucket for update`,
    values: [plainArray(transferIds.map(idToUuid))],
    rowMode: "array",
  });
  for (const leg of rows.map(toLockedLeg)) {
    const known = legs.get(leg.transferId);
    if (known === undefined) legs.set(leg.transferId, [leg]);
    else known.push(leg);
  }
  return legs;
}

async function lockOriginals(db: Client, transferIds: readonly string[]): Promise<Map<string, OriginalTransfer>> {
  if (transferIds.length === 0) return new Map();
  const { rows } = await db.query<OriginalRow>({
    name: "lock-originals",
    text: `select transfer_id, event_number, reversed_postings, ${TRANSFER_COLUMNS}
             from ledger.transfers where transfer_id = any ($1) order by transfer_id for no key update`,
    values: [plainArray(transferIds.map(idToUuid))],
    rowMode: "array",
  });
  return new Map(
    rows.map(([transferUuid, eventNumber, reversedPostings, ...columns]) => {
      const transferId = uuidToId("xfer", transferUuid);
      const original: OriginalTransfer = {
        transfer: decodeTransferColumns(transferId, columns),
        transferUuid,
        eventNumber: BigInt(eventNumber),
        reversedPostings: reversedPostings ?? [],
        row: "unchanged",
      };
      return [transferId, original];
    }),
  );
}

type OriginalRow = [
  transferUuid: string,
  eventNumber: string,
  reversedPostings: number[] | null,
  ...columns: TransferColumns,
];

/** Read after the accounts are locked: who changes such a row holds the lock of the account that was credited. */
async function readRefunds(db: Client, transferIds: readonly string[]): Promise<Map<string, RefundedPosting>> {
  if (transferIds.length === 0) return new Map();
  const { rows } = await db.query<RefundRow>({
    name: "read-refunds",
    text: `select ${REFUND_COLUMNS} from ledger.refunded_postings where transfer_id = any ($1)`,
    values: [plainArray(transferIds.map(idToUuid))],
    rowMode: "array",
  });
  return new Map(
    rows.map(toRefundedPosting).map((refund) => [postingName(refund.transferUuid, refund.postingIndex), refund]),
  );
}

type KnownKeyRow = [
  bucket: number,
  caller: string,
  method: string,
  key: string,
  fingerprint: Buffer,
  resourceUuid: string,
  refusal: RefusalJson | null,
  eventNumber: string | null,
  state: string | null,
  type: string,
  memo: string,
  metadata: Record<string, string>,
  postings: [string, string, string, string][],
  balances: BalanceColumn[],
  postTimeMs: number,
  effectiveTimeMs: number,
  links: Parameters<typeof decodeTransfer>[1]["links"],
];

async function readKnownKeys(db: Client, keys: readonly CommandKey[]): Promise<Map<string, KnownKey>> {
  const { rows } = await db.query<KnownKeyRow>({
    name: "read-known-keys",
    text: "select * from ledger.read_known_keys($1, $2, $3, $4)",
    values: keyColumns(keys),
    rowMode: "array",
  });
  return new Map(rows.map((row) => [keyText(row[0], row[1], row[2], row[3]), toKnownKey(row)]));
}

function toKnownKey(row: KnownKeyRow): KnownKey {
  const [, , , , fingerprint, resourceUuid, refusal, eventNumber, state, type, memo, metadata, ...rest] = row;
  const [postings, balances, postTimeMs, effectiveTimeMs, links] = rest;
  const columns = { type, memo, metadata, postings, balances, postTimeMs, effectiveTimeMs, links };
  return {
    fingerprint,
    resourceUuid,
    refusal,
    transfer: state === null ? undefined : decodeTransfer(uuidToId("xfer", resourceUuid), { state, ...columns }),
    eventNumber: eventNumber === null ? undefined : BigInt(eventNumber),
  };
}
