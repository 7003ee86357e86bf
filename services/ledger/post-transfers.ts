import type { Client } from "pg";
import { bucketOfUuid } from "#lib/ids.ts";
import type { Refusal } from "#lib/refusal.ts";
import { joinedJson, plainArray, textArray } from "#lib/sql-arrays.ts";
import type { Batch } from "#services/ledger/batch.ts";
import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { CommandKey } from "#services/ledger/command.ts";
import { claimColumns, encodeRefusal, keyColumns } from "#services/ledger/command-key.ts";
import { encodeBalances, encodeLinks, encodePostings, rfc3339 } from "#services/ledger/encode-transfer.ts";
import { holdColumns } from "#services/ledger/hold-row.ts";
import { quoteColumns } from "#services/ledger/quote.ts";
import { rateColumns } from "#services/ledger/rate.ts";
import { refundColumns } from "#services/ledger/refunded-posting.ts";
import { legColumns } from "#services/ledger/remote-leg-row.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";

/** The second round trip of a batch, the commit aside: everything that was decided, one statement per table. */

/** What a batch decided: the changed rows, and what became of keys. */
export interface DecidedBatch {
  readonly batch: Batch;
  /** Keys of commands refused now: remembered with the refusal, or given back. */
  readonly refusedKeys: readonly { key: CommandKey; refusal: Refusal; remembered: boolean }[];
  /** Keys of commands that made no transfer, and their events. */
  readonly keyEvents: readonly { key: CommandKey; event: BatchEvent }[];
}

/** What an optimistic batch was decided on: to be checked when it is written. */
export interface Assumed {
  /** Sorted; all of them free. */
  readonly keys: readonly CommandKey[];
  /** By UUID. */
  readonly accounts: ReadonlyMap<string, LockedAccount>;
}

/** The statements of a batch with their parameters, ready to be sent, within a transaction. */
export interface WriteStatements {
  readonly post: Statement;
  /** Those that read the head which `post` has moved. Most batches have none. */
  readonly further: readonly Statement[];
}

interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: readonly (string | number | null)[];
}

/** `assumed`: of an optimistic batch; undefined when everything is locked. */
export function writeStatements(mapVersion: number, decided: DecidedBatch, assumed?: Assumed): WriteStatements {
  const { batch, keyEvents } = decided;
  const eventCount = batch.events.length;
  const further: Statement[] = [];
  const legs = [...batch.legs.values()].flat().filter(({ row }) => row !== "unchanged");
  if (legs.length > 0) further.push(callOf("write_legs", [eventCount, ...legColumns(legs)]));
  const decisions = [...batch.decisions.values()].filter(({ row }) => row !== "unchanged");
  if (decisions.length > 0) {
    further.push(
      callOf("write_decisions", [
        plainArray(decisions.map(({ row }) => String(row === "new"))),
        plainArray(decisions.map(({ transferUuid }) => transferUuid)),
        plainArray(decisions.map(({ bucket }) => bucket)),
        plainArray(decisions.map(({ state }) => state)),
      ]),
    );
  }
  const quotes = [...batch.quotes.values()].filter(({ row }) => row !== "unchanged");
  if (quotes.length > 0) further.push(callOf("write_quotes", quoteColumns(quotes)));
  if (batch.newRates.length > 0) further.push(callOf("write_rates", rateColumns(batch.newRates)));
  const holds = [...batch.holds.values()].filter(({ row }) => row !== "unchanged");
  if (holds.length > 0) further.push(callOf("write_holds", holdColumns(holds)));
  const refunds = [...batch.refunds.values()].filter(({ row }) => row !== "unchanged");
  if (refunds.length > 0) further.push(callOf("write_refunds", refundColumns(refunds)));
  const originals = [...batch.originals.values()].filter(({ row }) => row !== "unchanged");
  if (originals.length > 0) {
    further.push(
      callOf("write_reversed", [
        plainArray(originals.map(({ transferUuid }) => transferUuid)),
        plainArray(originals.map(({ transfer }) => transfer.state)),
        textArray(originals.map(({ reversedPostings }) => plainArray(reversedPostings))),
      ]),
    );
  }
  if (keyEvents.length > 0) {
    const ordinals = plainArray(keyEvents.map(({ event }) => event.ordinal));
    further.push(callOf("write_key_events", [eventCount, ...keyColumns(keyEvents.map(({ key }) => key)), ordinals]));
  }
  return { post: rowsOf("post_transfers", postColumns(mapVersion, decided, assumed)), further };
}

/** What `post_transfers` answers. */
interface Posted {
  /** Of the batch's events. */
  readonly firstNumber: bigint;
  /** The shard's clock. */
  readonly clockMs: number;
}

/** Sends the statements, in one round trip with whatever follows. */
export async function sendStatements(db: Client, { post, further }: WriteStatements): Promise<Posted> {
  const [posted] = await Promise.all([
    db.query<[string, number]>({ ...post, values: [...post.values], rowMode: "array" }),
    ...further.map((statement) => db.query({ ...statement, values: [...statement.values] })),
  ]);
  const [firstNumber, clockMs] = posted.rows[0] as [string, number];
  return { firstNumber: BigInt(firstNumber), clockMs };
}

/** A call of a function of ours that answers a value, or nothing. */
function callOf(name: string, values: Statement["values"]): Statement {
  return { name, text: `select ledger.${name}(${placeholders(values)})`, values };
}

function rowsOf(name: string, values: Statement["values"]): Statement {
  return { name, text: `select * from ledger.${name}(${placeholders(values)})`, values };
}

function placeholders(values: Statement["values"]): string {
  return values.map((_, index) => `$${index + 1}`).join(", ");
}

function postColumns(
  mapVersion: number,
  { batch, refusedKeys }: DecidedBatch,
  assumed: Assumed | undefined,
): (string | number | null)[] {
  const { transfers: written, entries, events } = batch;
  const transfers = written.map(({ transfer }) => transfer);
  const accounts = [...batch.accounts.values()];
  const touched = accounts.filter((account) => account.touched);
  const onlyRead = assumed === undefined ? [] : accounts.filter((account) => !account.touched);
  return [
    mapVersion,
    assumed === undefined ? null : rfc3339(batch.nowMs),
    ...claimColumns(assumed?.keys ?? []),
    plainArray(onlyRead.map(({ uuid }) => uuid)),
    ...assumptionColumns(onlyRead, assumed),
    plainArray(written.map(({ command }) => command.transferUuid)),
    plainArray(written.map(({ command }) => command.bucket)),
    textArray(transfers.map(({ type }) => type)),
    textArray(transfers.map(({ memo }) => memo)),
    joinedJson(transfers.map(({ metadata }) => JSON.stringify(metadata))),
    joinedJson(transfers.map(encodePostings)),
    joinedJson(transfers.map(({ balances }) => encodeBalances(balances))),
    plainArray(transfers.map(({ postTimeMs }) => rfc3339(postTimeMs))),
    plainArray(transfers.map(({ effectiveTimeMs }) => rfc3339(effectiveTimeMs))),
    joinedJson(transfers.map(({ links }) => encodeLinks(links))),
    plainArray(written.map(({ event }) => event.ordinal)),

    plainArray(entries.map(({ entry }) => entry.account.uuid)),
    plainArray(entries.map(({ entry }) => entry.sequence)),
    plainArray(entries.map(({ entry }) => bucketOfUuid(entry.account.uuid))),
    plainArray(entries.map(({ transferUuid }) => transferUuid)),
    plainArray(entries.map(({ entry }) => entry.postingIndex)),
    plainArray(entries.map(({ entry }) => entry.amountMinorUnits)),
    plainArray(entries.map(({ entry }) => entry.balanceAfterMinorUnits)),
    plainArray(entries.map(({ entry }) => entry.currency)),
    plainArray(entries.map(({ entry }) => entry.counterparty.uuid)),
    plainArray(entries.map(({ postTimeMs }) => rfc3339(postTimeMs))),
    plainArray(entries.map(({ effectiveTimeMs }) => rfc3339(effectiveTimeMs))),

    plainArray(touched.map(({ uuid }) => uuid)),
    ...stateColumns(touched),
    ...assumptionColumns(touched, assumed),

    plainArray(events.map(({ bucket }) => bucket)),
    plainArray(events.map(({ aggregateId }) => aggregateId)),
    plainArray(events.map(({ aggregateVersion }) => aggregateVersion)),
    plainArray(events.map(({ type }) => type)),
    joinedJson(events.map(({ payload }) => payload)),

    ...keyColumns(refusedKeys.map(({ key }) => key)),
    textArray(refusedKeys.map(({ refusal, remembered }) => (remembered ? encodeRefusal(refusal) : null))),
  ];
}

/** As accounts were taken to be. */
function assumptionColumns(accounts: readonly LockedAccount[], assumed: Assumed | undefined): (string | null)[] {
  if (assumed === undefined) return LOCKED_ALREADY;
  return stateColumns(accounts.map(({ uuid }) => assumed.accounts.get(uuid) as LockedAccount));
}

/** Everything of accounts that can change. */
function stateColumns(accounts: readonly LockedAccount[]): string[] {
  return [
    plainArray(accounts.map(({ postedMinorUnits }) => postedMinorUnits)),
    plainArray(accounts.map(({ heldMinorUnits }) => heldMinorUnits)),
    plainArray(accounts.map(({ preparedDebitMinorUnits }) => preparedDebitMinorUnits)),
    plainArray(accounts.map(({ preparedCreditMinorUnits }) => preparedCreditMinorUnits)),
    plainArray(accounts.map(({ status }) => status)),
    plainArray(accounts.map(({ version }) => version)),
    plainArray(accounts.map(({ entrySequence }) => entrySequence)),
    plainArray(accounts.map(({ lastPostTimeMs }) => timeOrNever(lastPostTimeMs))),
    plainArray(accounts.map(({ lastEffectiveTimeMs }) => timeOrNever(lastEffectiveTimeMs))),
  ];
}

const LOCKED_ALREADY = Array<null>(9).fill(null);

/** An account without entries has no time yet: Postgres says minus infinity. */
function timeOrNever(timeMs: number): string {
  return timeMs === Number.NEGATIVE_INFINITY ? "-infinity" : rfc3339(timeMs);
}
