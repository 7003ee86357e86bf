import { setTimeout as sleep } from "node:timers/promises";
import type { QueryResultRow } from "pg";
import { noteOffenders, type OffenderRow, offendersOf, type ShardReader, slicesOf } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { Interrupted } from "#cli/patience.ts";
import { ageOfFirstEventAfterMs, readEventPages } from "#cli/read-log.ts";
import type { StoredEvent } from "#lib/events.ts";
import { BUCKET_COUNT, bucketOfUuid, parseId, uuidToId } from "#lib/ids.ts";
import { type BucketMap, shardOfBucket } from "#lib/shards.ts";
import { plainArray } from "#lib/sql-arrays.ts";

/**
 * Invariant 7 of `ledgermesh check`, and the walk that invariant 4 shares: the log of a shard from the first event on, each
 * page with the transfers, legs and entries that its events tell of. They are of the same commit as their event, and never
 * change, so whatever was in the log when the walk began must be there, and must say the same.
 */

/** A shard at one instant. */
export interface Cut {
  readonly shard: number;
  readonly head: bigint;
  readonly lastEvent: bigint;
  readonly publishedTo: bigint;
  readonly accounts: number;
  /** By what the accounts say. */
  readonly entries: number;
  readonly transit: readonly TransitAccount[];
  /** 1, 2, … by bucket. */
  readonly shardOf: readonly number[];
  readonly shardCount: number;
}

interface TransitAccount {
  readonly uuid: string;
  readonly currency: string;
  readonly postedMinorUnits: bigint;
}

export async function readCut(reader: ShardReader): Promise<Cut> {
  const [row] = await reader.ask<{
    shard: number;
    map_version: number;
    head: string;
    last_event: string;
    published_to: string | null;
    accounts: string;
    entries: string;
    transit: { account_id: string; currency: string; posted: string }[] | null;
    ranges: { first: number; last: number; shard: number }[] | null;
  }>({
    text: `select h.shard, h.map_version, h.sequence as head, coalesce((select max(number) from ledger.events), 0) as last_event,
                  (select number from relay.cursor c where c.shard = h.shard) as published_to,
                  (select count(*) from ledger.accounts) as accounts,
                  (select coalesce(sum(entry_sequence), 0) from ledger.accounts) as entries,
                  (select json_agg(json_build_object('account_id', account_id, 'currency', currency, 'posted', posted_minor_units::text))
                     from ledger.accounts where reference = 'system:transit') as transit,
                  (select json_agg(json_build_object('first', first_bucket, 'last', last_bucket, 'shard', m.shard))
                     from ledger.bucket_map m where m.map_version = h.map_version) as ranges
             from ledger.shard_head h`,
  });
  if (row === undefined || row.ranges === null)
    throw new Error("the database has no shard head: is it a shard, migrated?");
  const map: BucketMap = {
    version: row.map_version,
    ranges: row.ranges.map(({ first, last, shard }) => ({ firstBucket: first, lastBucket: last, shard })),
  };
  return {
    shard: row.shard,
    head: BigInt(row.head),
    lastEvent: BigInt(row.last_event),
    publishedTo: BigInt(row.published_to ?? 0),
    accounts: Number(row.accounts),
    entries: Number(row.entries),
    transit: (row.transit ?? []).map(({ account_id, currency, posted }) => ({
      uuid: account_id,
      currency,
      postedMinorUnits: BigInt(posted),
    })),
    shardOf: Array.from({ length: BUCKET_COUNT }, (_, bucket) => shardOfBucket(map, bucket)),
    shardCount: new Set(map.ranges.map(({ shard }) => shard)).size,
  };
}

/** Transfers of a page that are here, and legs of other shards' transfers, each with its event. */
export interface LogPage {
  readonly transfers: readonly ToldTransfer[];
  readonly legs: readonly ToldLegs[];
}

export interface ToldTransfer {
  readonly transferUuid: string;
  readonly number: bigint;
  readonly row: TransferRow;
  readonly postings: readonly PostingSides[];
}

export interface ToldLegs {
  readonly transferUuid: string;
  readonly number: bigint;
  readonly rows: readonly LegRow[];
}

/** A posting with the shards of its sides. */
export interface PostingSides {
  readonly debitUuid: string;
  readonly creditUuid: string;
  readonly debitShard: number;
  readonly creditShard: number;
  readonly amount: string;
  readonly currency: string;
}

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
interface Payload {
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

interface ToldId {
  readonly event: StoredEvent;
  /** Of what it is about. */
  readonly uuid: string;
}

interface Told extends ToldId {
  readonly payload: Payload;
}

/** Of the others only the numbers count. */
const LOOKED_AT: ReadonlySet<string> = new Set([
  "account_created",
  "transfer_posted",
  "transfer_leg_posted",
  "transfer_reversed",
]);

/**
 * Walks the log up to the cut.
 * @param notebook takes what invariant 7 finds
 * @param onPage sees every page, in order
 * @param onProgress is told how many events were looked at
 */
export async function walkLog(
  reader: ShardReader,
  cut: Cut,
  notebook: Notebook,
  onPage: (page: LogPage) => Promise<void>,
  onProgress: (events: number) => void,
): Promise<void> {
  const uuidOf = uuidCache();
  const transitOf = new Map(cut.transit.map(({ currency, uuid }) => [currency, uuid]));
  const transitIds = new Set(cut.transit.map(({ uuid }) => uuidToId("acct", uuid)));
  let next = 1n;
  let entries = 0;
  for await (const events of readEventPages(reader.db, cut.lastEvent)) {
    if (reader.signal.aborted) throw new Interrupted("Stopped.");
    for (const { number } of events) {
      if (number > cut.head) noteEvent("EVENT_BEYOND_HEAD", number, `up to ${cut.head}`, "one more");
      else if (number < next) noteEvent("EVENT_REPEATED", number, "once", "again");
      else {
        if (number > next) noteMissing(next, number - 1n);
        next = number + 1n;
      }
    }
    const page = await lookUp(events);
    await onPage(page);
    onProgress(events.length);
    notebook.looked("events", events.length);
  }
  if (next <= cut.head) noteMissing(next, cut.head);
  notebook.looked("entries", entries);
  if (entries !== cut.entries) await findUntoldEntries(reader, notebook, cut.entries);

  function noteEvent(reason: string, number: bigint, expected: string, found: string): void {
    notebook.found({ reason, ids: { event_number: number.toString() }, expected, found });
  }

  function noteMissing(first: bigint, last: bigint): void {
    const ids = { first_event_number: first.toString(), last_event_number: last.toString() };
    notebook.found({ reason: "EVENT_MISSING", ids, expected: `events up to ${cut.head}`, found: "none" });
  }

  async function lookUp(events: readonly StoredEvent[]): Promise<LogPage> {
    const transfers: Told[] = [];
    const legs: Told[] = [];
    const accounts: ToldId[] = [];
    const reversed: ToldId[] = [];
    for (const event of events) {
      if (!LOOKED_AT.has(event.type)) continue;
      const uuid = parseId(event.aggregateId)?.uuid;
      const isTold = event.type === "transfer_posted" || event.type === "transfer_leg_posted";
      const payload = isTold ? parsePayload(event) : undefined;
      if (uuid === undefined || (isTold && payload === undefined))
        noteEvent("EVENT_UNREADABLE", event.number, "an id, and a payload that can be read", event.aggregateId);
      else if (payload !== undefined)
        (event.type === "transfer_posted" ? transfers : legs).push({ event, uuid, payload });
      else (event.type === "account_created" ? accounts : reversed).push({ event, uuid });
    }
    const [transferRows, legRows, entryRows, accountRows] = await Promise.all([
      readTransfers(reader, [...transfers, ...reversed]),
      readLegs(reader, legs),
      readEntries(reader, [...transfers, ...legs], uuidOf),
      readOpenings(reader, accounts),
    ]);
    for (const { event, uuid } of accounts) {
      if (accountRows.get(uuid) === event.number.toString()) continue;
      const ids = { event_number: event.number.toString(), account_id: event.aggregateId };
      notebook.found({
        reason: "EVENT_WITHOUT_ACCOUNT",
        ids,
        expected: "an account that was opened by it",
        found: "none",
      });
    }
    for (const { event, uuid } of reversed) {
      const found = transferRows.get(uuid)?.state ?? "no transfer";
      if (found === "REVERSED") continue;
      const ids = { event_number: event.number.toString(), transfer_id: event.aggregateId };
      notebook.found({ reason: "EVENT_WITHOUT_REVERSAL", ids, expected: "REVERSED", found });
    }
    const toldTransfers = transfers.flatMap((told) => checkTransfer(told, transferRows.get(told.uuid), entryRows));
    const toldLegs = legs.flatMap((told) => checkLegs(told, legRows.get(told.uuid) ?? [], entryRows));
    notebook.looked("transfers", toldTransfers.length);
    return { transfers: toldTransfers, legs: toldLegs };
  }

  function checkTransfer(told: Told, row: TransferRow | undefined, entryRows: EntryRows): ToldTransfer[] {
    const { event, uuid, payload } = told;
    const ids = { event_number: event.number.toString(), transfer_id: event.aggregateId };
    if (row === undefined) {
      notebook.found({ reason: "EVENT_WITHOUT_TRANSFER", ids, expected: "the transfer", found: "none" });
      checkEntries(told, undefined, entryRows);
      return [];
    }
    compare("TRANSFER_DIFFERS", ids, [
      ["event_number", event.number.toString(), row.event_number],
      ["transfer_id", event.aggregateId, payload.transfer_id],
      ["type", payload.type, row.type],
      ["memo", payload.memo, row.memo],
      ["metadata", JSON.stringify(payload.metadata ?? {}), row.metadata],
      ["post_time", Date.parse(payload.post_time), row.post_time_ms],
      ["effective_time", Date.parse(payload.effective_time), row.effective_time_ms],
      ["links", linksOf(payload), row.links],
      ["postings", postingsOf(payload), row.postings],
      ["balances", balancesOf(payload), row.balances],
    ]);
    const postings = parsePostings(row.postings).map(([debit, credit, amount, currency]): PostingSides => {
      const [debitUuid, creditUuid] = [uuidOf(debit), uuidOf(credit)];
      return {
        debitUuid,
        creditUuid,
        debitShard: cut.shardOf[bucketOfUuid(debitUuid)] ?? 0,
        creditShard: cut.shardOf[bucketOfUuid(creditUuid)] ?? 0,
        amount,
        currency,
      };
    });
    const expected = postings.flatMap((posting, index) =>
      entriesOf(index, posting, posting.debitShard === cut.shard, posting.creditShard === cut.shard),
    );
    checkEntries(told, expected, entryRows);
    return [{ transferUuid: uuid, number: event.number, row, postings }];
  }

  function checkLegs(told: Told, rows: readonly LegRow[], entryRows: EntryRows): ToldLegs[] {
    const { event, uuid, payload } = told;
    const ids = { event_number: event.number.toString(), transfer_id: event.aggregateId };
    if (rows.length === 0) {
      notebook.found({ reason: "EVENT_WITHOUT_LEG", ids, expected: "the legs of the transfer", found: "none" });
      checkEntries(told, undefined, entryRows);
      return [];
    }
    for (const row of rows) {
      compare("LEG_DIFFERS", { ...ids, posting_index: String(row.posting_index) }, [
        ["state", "POSTED", row.state],
        ["event_number", event.number.toString(), row.event_number],
        ["type", payload.type, row.type],
        ["memo", payload.memo, row.memo],
        ["balances", balancesOf(payload), row.balances],
      ]);
    }
    const expected = rows.flatMap((row) =>
      entriesOf(
        row.posting_index,
        {
          debitUuid: row.debit_account_id,
          creditUuid: row.credit_account_id,
          amount: row.amount,
          currency: row.currency,
        },
        row.debit_is_here,
        row.credit_is_here,
      ),
    );
    checkEntries(told, expected, entryRows);
    return [{ transferUuid: uuid, number: event.number, rows }];
  }

  /** The two entries of a posting on this shard: a side that is elsewhere is the transit account's. None when both are. */
  function entriesOf(
    index: number,
    { debitUuid, creditUuid, amount, currency }: Pick<PostingSides, "debitUuid" | "creditUuid" | "amount" | "currency">,
    debitIsHere: boolean,
    creditIsHere: boolean,
  ): string[] {
    if (!debitIsHere && !creditIsHere) return [];
    const transit = transitOf.get(currency) ?? "no transit account";
    return [
      `${index} ${debitIsHere ? debitUuid : transit} -${amount} ${currency} ${creditUuid}`,
      `${index} ${creditIsHere ? creditUuid : transit} ${amount} ${currency} ${debitUuid}`,
    ];
  }

  /** The entries that an event tells of must be there, and be those of the postings. */
  function checkEntries(
    { event, uuid, payload }: Told,
    expected: readonly string[] | undefined,
    rows: EntryRows,
  ): void {
    entries += payload.entries.length;
    const told = payload.entries.map(
      (entry) =>
        `${entry.posting_index} ${uuidOf(entry.account_id)} ${entry.amount_minor_units} ${entry.currency} ${uuidOf(entry.counterparty_account_id)}`,
    );
    const transferIds = { event_number: event.number.toString(), transfer_id: event.aggregateId };
    const [expectedText, toldText] = [expected?.join(", "), told.join(", ")];
    if (expectedText !== undefined && toldText !== expectedText) {
      notebook.found({ reason: "ENTRIES_UNLIKE_POSTINGS", ids: transferIds, expected: expectedText, found: toldText });
    }
    const effectiveTimeMs = Date.parse(payload.effective_time);
    for (const entry of payload.entries) {
      const counterpartyUuid = uuidOf(entry.counterparty_account_id);
      const row = rows.get(`${uuidOf(entry.account_id)} ${entry.sequence}`);
      const ids = () => ({ ...transferIds, account_id: entry.account_id, sequence: entry.sequence });
      if (row === undefined) {
        const expectedEntry = `an entry at ${payload.post_time}`;
        notebook.found({ reason: "ENTRY_MISSING", ids: ids(), expected: expectedEntry, found: "none" });
        continue;
      }
      const [, , transferUuid, index, amount, balanceAfter, currency, counterparty, effectiveMs] = row;
      if (
        amount === entry.amount_minor_units &&
        balanceAfter === entry.balance_after_minor_units &&
        transferUuid === uuid &&
        index === entry.posting_index &&
        currency === entry.currency &&
        counterparty === counterpartyUuid &&
        effectiveMs === effectiveTimeMs
      )
        continue;
      compare("ENTRY_DIFFERS", ids(), [
        ["amount_minor_units", entry.amount_minor_units, amount],
        ["balance_after_minor_units", entry.balance_after_minor_units, balanceAfter],
        ["transfer_id", event.aggregateId, uuidToId("xfer", transferUuid)],
        ["posting_index", entry.posting_index, index],
        ["currency", entry.currency, currency],
        ["counterparty_account_id", entry.counterparty_account_id, uuidToId("acct", counterparty)],
        ["effective_time", rfc3339(effectiveTimeMs), rfc3339(effectiveMs)],
      ]);
    }
  }

  /** What the event says is expected; what the table says is found. */
  function compare(
    reason: string,
    ids: Readonly<Record<string, string>>,
    fields: readonly [name: string, expected: string | number | null, found: string | number | null][],
  ): void {
    for (const [field, expected, found] of fields) {
      if (expected === found || sameJson(expected, found)) continue;
      notebook.found({ reason, ids: { ...ids, field }, expected: String(expected), found: String(found) });
    }
  }

  /** Column `balances` of transfers and legs: of all accounts here but transit. */
  function balancesOf({ accounts }: Payload): string {
    const rows = accounts
      .filter(({ account_id }) => !transitIds.has(account_id))
      .map((account) => {
        const { account_id, posted_minor_units, held_minor_units, version } = account;
        return `["${account_id}","${posted_minor_units}","${held_minor_units}","${version}"]`;
      });
    return `[${rows.join(",")}]`;
  }
}

function postingsOf({ postings = [] }: Payload): string {
  const rows = postings.map(({ debit_account_id, credit_account_id, amount_minor_units, currency }) => {
    return `["${debit_account_id}","${credit_account_id}","${amount_minor_units}","${currency}"]`;
  });
  return `[${rows.join(",")}]`;
}

function linksOf({ hold_id, reverses_transfer_id, reverses_posting_indexes, quote_id }: Payload): string | null {
  const links = { hold_id, reverses_transfer_id, reverses_posting_indexes, quote_id };
  return Object.values(links).some((link) => link !== undefined) ? JSON.stringify(links) : null;
}

/** Texts of JSON that differ in blanks only are the same. */
function sameJson(one: string | number | null, other: string | number | null): boolean {
  if (typeof one !== "string" || typeof other !== "string" || !/^[[{]/.test(other)) return false;
  try {
    return JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
  } catch {
    return false;
  }
}

/** Column `postings`; none when it is not what a ledger writes. */
export function parsePostings(column: string): PostingColumns {
  try {
    const postings: unknown = JSON.parse(column);
    if (Array.isArray(postings) && postings.every((posting) => Array.isArray(posting) && posting.length === 4))
      return postings;
  } catch {}
  return [];
}

const rfc3339 = (timeMs: number) => (Number.isNaN(timeMs) ? "no time" : new Date(timeMs).toISOString());

/** Undefined when it is not what a ledger writes: nothing in it can be looked up then. */
function parsePayload({ payload }: StoredEvent): Payload | undefined {
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
type EntryRows = ReadonlyMap<string, EntryRow>;

async function readTransfers(reader: ShardReader, told: readonly ToldId[]): Promise<ReadonlyMap<string, TransferRow>> {
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

async function readLegs(reader: ShardReader, told: readonly Told[]): Promise<ReadonlyMap<string, LegRow[]>> {
  if (told.length === 0) return new Map();
  const values = [plainArray(told.map(({ uuid }) => uuid))];
  return Map.groupBy(await reader.ask<LegRow>({ name: "check-legs", text: LEG_SQL, values }), (row) => row.transfer_id);
}

/** The entries that the events tell of, along the primary key. */
async function readEntries(
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
async function readOpenings(reader: ShardReader, opened: readonly ToldId[]): Promise<ReadonlyMap<string, string>> {
  if (opened.length === 0) return new Map();
  const rows = await reader.ask<{ account_id: string; open_event_number: string }>({
    name: "check-openings",
    text: "select account_id, open_event_number from ledger.accounts where account_id = any ($1)",
    values: [plainArray(opened.map(({ uuid }) => uuid))],
  });
  return new Map(rows.map((row) => [row.account_id, row.open_event_number]));
}

const MAX_CACHED_IDS = 20_000;

/** Of what is no id: nothing has it. */
const NO_UUID = "00000000-0000-0000-0000-000000000000";

/** UUIDs of ids: the same accounts come again and again. */
export function uuidCache(): (id: string) => string {
  const known = new Map<string, string>();
  return (id) => {
    let uuid = known.get(id);
    if (uuid === undefined) {
      uuid = parseId(id)?.uuid ?? NO_UUID;
      if (known.size >= MAX_CACHED_IDS) known.clear();
      known.set(id, uuid);
    }
    return uuid;
  };
}

const SLICE_EVENTS = 4_000_000;

/** The other direction: what is there and no event tells of. Row and event are of one commit. */
export async function checkToldOnce(reader: ShardReader, notebook: Notebook, cut: Cut): Promise<void> {
  const slices = Math.max(1, Math.ceil(Number(cut.head) / SLICE_EVENTS));
  for (let slice = 0; slice < slices; slice += 1) {
    const inSlice = (column: string) => (slices === 1 ? "true" : `${column} % ${slices} = ${slice}`);
    const untold = (reason: string, id: string, rows: string, type: string) => `
      select '${reason}' as reason, json_build_object('${id}', r.id, 'event_number', r.number) as ids,
             'an event of its own' as expected,
             case when e.number is null then 'none' else 'that of another, too' end as found
        from (select number, id, count(*) over (partition by number) as rows from (${rows}) r
               where ${inSlice("coalesce(number, 0)")}) r
        left join (select number from ledger.events where type = '${type}' and ${inSlice("number")}) e on e.number = r.number
       where e.number is null or r.rows <> 1`;
    noteOffenders(
      notebook,
      await reader.ask<OffenderRow>({
        text: offendersOf(
          [
            untold(
              "TRANSFER_WITHOUT_EVENT",
              "transfer_id",
              "select event_number as number, transfer_id as id from ledger.transfers",
              "transfer_posted",
            ),
            untold(
              "LEG_WITHOUT_EVENT",
              "transfer_id",
              "select distinct event_number as number, transfer_id as id from ledger.remote_legs where state = 'POSTED'",
              "transfer_leg_posted",
            ),
            untold(
              "ACCOUNT_WITHOUT_EVENT",
              "account_id",
              "select open_event_number as number, account_id as id from ledger.accounts",
              "account_created",
            ),
          ].join(" union all "),
        ),
      }),
    );
  }
}

/** There are not as many entries as all events tell of: which transfers have more, or no row at all. Dear, and rare. */
async function findUntoldEntries(reader: ShardReader, notebook: Notebook, entries: number): Promise<void> {
  for (const slice of slicesOf("transfer_id", entries)) {
    const rows = await reader.ask<OffenderRow>({
      text: offendersOf(`
        select 'ENTRIES_NOT_TOLD' as reason, json_build_object('transfer_id', transfer_id) as ids,
               told || ' entries' as expected, entries || ' entries' as found
          from (select c.transfer_id, c.entries, n.event_number, coalesce(regexp_count(e.payload, '"sequence":"'), 0) as told
                  from (select transfer_id, count(*) as entries from ledger.entries where ${slice} group by transfer_id) c
                  left join lateral (select event_number from ledger.transfers t where t.transfer_id = c.transfer_id
                                     union all
                                     select event_number from ledger.remote_legs l where l.transfer_id = c.transfer_id limit 1) n on true
                  left join ledger.events e on e.number = n.event_number) c
         where entries > told and (told > 0 or event_number is null)`),
    });
    noteOffenders(notebook, rows);
  }
}

/** Events wait while NATS or the relay is started again. */
const PUBLISHED_WITHIN_MS = 60_000;
/** A relay that is only behind moves its cursor many times in so long. */
const LOOK_MS = 5_000;
const LOOK_EVERY_MS = 250;
const REMARKABLE_LAG_EVENTS = 10_000n;

/** The relay's cursor: not beyond the head, and moving as long as it is behind. */
export async function checkPublished(reader: ShardReader, notebook: Notebook, cut: Cut): Promise<void> {
  const { head, publishedTo } = cut;
  if (publishedTo > head) {
    const ids = { event_number: publishedTo.toString() };
    notebook.found({ reason: "CURSOR_BEYOND_HEAD", ids, expected: `at most ${head}`, found: publishedTo.toString() });
    return;
  }
  if (publishedTo === head) return;
  const startedMs = performance.now();
  for (;;) {
    const number = await readCursor(reader, cut.shard);
    if (number !== publishedTo) {
      const lag = head - number;
      if (lag > REMARKABLE_LAG_EVENTS) notebook.remark(`${lag} events of before are still to be published`);
      return;
    }
    if (performance.now() - startedMs > LOOK_MS) {
      const waitsForMs = await ageOfFirstEventAfterMs(reader.db, publishedTo);
      const found = `waits for ${Math.round(waitsForMs / 1_000)} s, and the relay does not move`;
      const ids = { event_number: (publishedTo + 1n).toString() };
      if (waitsForMs <= PUBLISHED_WITHIN_MS) notebook.remark(`event ${ids.event_number} ${found}`);
      else notebook.found({ reason: "NOT_PUBLISHED", ids, expected: "on its way within seconds", found });
      return;
    }
    if (reader.signal.aborted) throw new Interrupted("Stopped.");
    await sleep(LOOK_EVERY_MS);
  }
}

async function readCursor(reader: ShardReader, shard: number): Promise<bigint> {
  const [row] = await reader.ask<{ number: string }>({
    text: "select number from relay.cursor where shard = $1",
    values: [shard],
  });
  return BigInt(row?.number ?? 0);
}
