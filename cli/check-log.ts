import { type Cut, uuidCache } from "#cli/check-cut.ts";
import type { ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import {
  type EntryRows,
  type LegRow,
  type Payload,
  type PostingColumns,
  parsePayload,
  readEntries,
  readLegs,
  readOpenings,
  readTransfers,
  type Told,
  type ToldId,
  type TransferRow,
} from "#cli/check-log-rows.ts";
import { findUntoldEntries } from "#cli/check-untold.ts";
import { Interrupted } from "#cli/patience.ts";
import { readEventPages } from "#cli/read-log.ts";
import type { StoredEvent } from "#lib/events.ts";
import { bucketOfUuid, parseId, uuidToId } from "#lib/ids.ts";

/**
 * Invariant 7 of `ledgermesh check`, and the walk that invariant 4 shares: the log of a shard from the first event on, each
 * page with the transfers, legs and entries that its events tell of. They are of the same commit as their event, and never
 * change, so whatever was in the log when the walk began must be there, and must say the same.
 */

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
