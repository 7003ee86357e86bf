import type { QueryResultRow } from "pg";
import type { ShardReader } from "#cli/check-database.ts";
import type { StoredEvent } from "#lib/events.ts";
import { plainArray } from "#lib/sql-arrays.ts";

/** What events tell of, as the tables have it and as the payloads have it, and how a page of it is read. */

/** The JSON columns as their text. */
export interface TransferRow extends QueryResultRow {
  readonly transfer_id: string;
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly metadata: string;
  readonly postings: string;
  readonly balances: string;
  readonly links: string | null;
  readonly event_number: string;
  readonly post_time_ms: number;
  readonly effective_time_ms: number;
}

/** [debit, credit, amount, currency] of each. */
export type PostingColumns = [string, string, string, string][];

export interface LegRow extends QueryResultRow {
  readonly transfer_id: string;
  readonly posting_index: number;
  readonly debit_account_id: string;
  readonly credit_account_id: string;
  readonly debit_is_here: boolean;
  readonly credit_is_here: boolean;
  readonly amount: string;
  readonly currency: string;
  readonly type: string;
  readonly memo: string;
  readonly state: string;
  readonly balances: string | null;
  readonly event_number: string | null;
}

export const LEG_SQL = `
  select transfer_id, posting_index, debit_account_id, credit_account_id, debit_is_here, credit_is_here,
         amount_minor_units as amount, currency, type, memo, state, balances::text, event_number
    from ledger.remote_legs where transfer_id = any ($1) order by transfer_id, posting_index`;

type EntryRow = [
  accountUuid: string,
  sequence: string,
  transferUuid: string,
  postingIndex: number,
  amount: string,
  balanceAfter: string,
  currency: string,
  counterpartyUuid: string,
  effectiveTimeMs: number,
];

/** The parts of an event's payload that are looked at. */
export interface Payload {
  readonly transfer_id: string;
  readonly type: string;
  readonly memo: string;
  readonly metadata?: Record<string, string>;
  readonly postings?: {
    readonly debit_account_id: string;
    readonly credit_account_id: string;
    readonly amount_minor_units: string;
    readonly currency: string;
  }[];
  readonly entries: ToldEntry[];
  readonly accounts: {
    readonly account_id: string;
    readonly version: string;
    readonly posted_minor_units: string;
    readonly held_minor_units: string;
  }[];
  readonly post_time: string;
  readonly effective_time: string;
  readonly hold_id?: string;
  readonly reverses_transfer_id?: string;
  readonly reverses_posting_indexes?: number[];
  readonly quote_id?: string;
}

interface ToldEntry {
  readonly account_id: string;
  readonly sequence: string;
  readonly amount_minor_units: string;
  readonly balance_after_minor_units: string;
  readonly currency: string;
  readonly counterparty_account_id: string;
  readonly posting_index: number;
}

export interface ToldId {
  readonly event: StoredEvent;
  /** Of what it is about. */
  readonly uuid: string;
}

export interface Told extends ToldId {
  readonly payload: Payload;
}

/** Undefined when it is not what a ledger writes: nothing in it can be looked up then. */
export function parsePayload({ payload }: StoredEvent): Payload | undefined {
  try {
    const parsed = JSON.parse(payload) as Payload;
    const isReadable =
      Array.isArray(parsed.entries) &&
      Array.isArray(parsed.accounts) &&
      !Number.isNaN(Date.parse(parsed.post_time)) &&
      parsed.entries.every(({ sequence }) => /^\d{1,18}$/.test(sequence));
    return isReadable ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** By account and sequence. */
export type EntryRows = ReadonlyMap<string, EntryRow>;

export async function readTransfers(
  reader: ShardReader,
  told: readonly ToldId[],
): Promise<ReadonlyMap<string, TransferRow>> {
  if (told.length === 0) return new Map();
  const rows = await reader.ask<TransferRow>({
    name: "check-transfers",
    text: `${TRANSFER_SQL} where transfer_id = any ($1)`,
    values: [plainArray(told.map(({ uuid }) => uuid))],
  });
  return new Map(rows.map((row) => [row.transfer_id, row]));
}

export const TRANSFER_SQL = `
  select transfer_id, state, type, memo, metadata::text, postings::text, balances::text, links::text, event_number,
         (extract(epoch from post_time) * 1000)::double precision as post_time_ms,
         (extract(epoch from effective_time) * 1000)::double precision as effective_time_ms
    from ledger.transfers`;

export async function readLegs(reader: ShardReader, told: readonly Told[]): Promise<ReadonlyMap<string, LegRow[]>> {
  if (told.length === 0) return new Map();
  const values = [plainArray(told.map(({ uuid }) => uuid))];
  return Map.groupBy(await reader.ask<LegRow>({ name: "check-legs", text: LEG_SQL, values }), (row) => row.transfer_id);
}

/** The entries that the events tell of, along the primary key. */
export async function readEntries(
  reader: ShardReader,
  told: readonly Told[],
  uuidOf: (id: string) => string,
): Promise<EntryRows> {
  const wanted = told.flatMap(({ payload }) =>
    payload.entries.map((entry) => ({ entry, postTime: payload.post_time })),
  );
  if (wanted.length === 0) return new Map();
  const rows = await reader.askMany<EntryRow>({
    name: "check-entries",
    text: `select e.account_id, e.sequence, e.transfer_id, e.posting_index, e.amount_minor_units,
                  e.balance_after_minor_units, e.currency, e.counterparty_account_id,
                  (extract(epoch from e.effective_time) * 1000)::double precision
             from unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) w (account_id, post_time, sequence)
             join ledger.entries e using (account_id, post_time, sequence)`,
    values: [
      plainArray(wanted.map(({ entry }) => uuidOf(entry.account_id))),
      plainArray(wanted.map(({ postTime }) => postTime)),
      plainArray(wanted.map(({ entry }) => entry.sequence)),
    ],
  });
  return new Map(rows.map((row) => [`${row[0]} ${row[1]}`, row]));
}

/** Which event opened each account. */
export async function readOpenings(
  reader: ShardReader,
  opened: readonly ToldId[],
): Promise<ReadonlyMap<string, string>> {
  if (opened.length === 0) return new Map();
  const rows = await reader.ask<{ account_id: string; open_event_number: string }>({
    name: "check-openings",
    text: "select account_id, open_event_number from ledger.accounts where account_id = any ($1)",
    values: [plainArray(opened.map(({ uuid }) => uuid))],
  });
  return new Map(rows.map((row) => [row.account_id, row.open_event_number]));
}
