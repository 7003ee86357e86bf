import type { QueryResultRow } from "pg";
import { type Cut, uuidCache } from "#cli/check-cut.ts";
import { idSlicesOf, noteOffenders, type OffenderRow, offendersOf, type ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { bucketOfUuid, uuidToId } from "#lib/ids.ts";
import { plainArray } from "#lib/sql-arrays.ts";

/**
 * Invariant 6 of `ledgermesh check`: of no posting more is taken back than it credited (docs/decisions/0016-reversal.md). On
 * the credited shard a reversal and the remainder of its posting change in one commit, and one statement reads both. The
 * transfer that is taken back may be on another shard. It is read afterwards: it was there before any reversal,
 * and is told what is exhausted before that is noted. The other way round, what it was told is read first.
 */
export async function checkRefunds(
  reader: ShardReader,
  cut: Cut,
  others: ReadonlyMap<number, ShardReader>,
  notebook: Notebook,
): Promise<void> {
  const uuidOf = uuidCache();
  const [counts] = await reader.ask<{ remainders: string; reversals: string }>({
    text: `select (select count(*) from ledger.refunded_postings) as remainders,
                  (select count(*) from ledger.transfers where links ->> 'reverses_transfer_id' is not null) as reversals`,
  });
  const { remainders, reversals } = { remainders: Number(counts?.remainders), reversals: Number(counts?.reversals) };
  notebook.looked("reversals", reversals);
  notebook.looked("postings", remainders);
  for (const { ofText, ofUuid } of idSlicesOf(Math.max(remainders, reversals))) {
    const rows = await reader.ask<SliceRow>({
      text: `select transfer_id as reversal, links ->> 'reverses_transfer_id' as original,
                    links -> 'reverses_posting_indexes' as indexes, postings, null as posting_index, null as credited,
                    null as refunded, null as state
               from ledger.transfers
              where links ->> 'reverses_transfer_id' is not null and ${ofText("links ->> 'reverses_transfer_id'")}
              union all
             select null, transfer_id::text, null, null, posting_index, credited_minor_units, refunded_minor_units, state
               from ledger.refunded_postings where ${ofUuid("transfer_id")}`,
    });
    await checkOriginals([...gather(rows).values()]);
  }
  await checkReversedStates(reader, notebook);
  await checkToldReversals();

  /** All that belongs to each posting that is taken back. */
  function gather(rows: readonly SliceRow[]): Map<string, TakenBack> {
    const postings = new Map<string, TakenBack>();
    const at = (originalUuid: string, index: number): TakenBack => {
      const name = `${originalUuid} ${index}`;
      const known = postings.get(name) ?? { originalUuid, index, sum: 0n, remainder: undefined, reversals: [] };
      postings.set(name, known);
      return known;
    };
    for (const row of rows) {
      if (row.reversal === null) {
        at(row.original, row.posting_index ?? 0).remainder = row;
        continue;
      }
      const original = uuidOf(row.original);
      for (const [position, posting] of (row.postings ?? []).entries()) {
        const taken = at(original, row.indexes?.[position] ?? NO_POSTING);
        taken.sum += BigInt(posting[2]);
        taken.reversals.push({ reversalUuid: row.reversal, posting });
      }
    }
    return postings;
  }

  async function checkOriginals(postings: readonly TakenBack[]): Promise<void> {
    const byShard = Map.groupBy(postings, ({ originalUuid }) => cut.shardOf[bucketOfUuid(originalUuid)] ?? 0);
    for (const [shard, there] of byShard) {
      const other = others.get(shard);
      if (other === undefined) {
        notebook.couldNot(`shard ${shard} cannot be asked`);
        continue;
      }
      for (let start = 0; start < there.length; start += PAGE_ORIGINALS) {
        const page = there.slice(start, start + PAGE_ORIGINALS);
        const originals = await readOriginals(other, page);
        for (const taken of page) checkTakenBack(taken, originals.get(taken.originalUuid));
      }
    }
  }

  function checkTakenBack({ originalUuid, index, sum, remainder, reversals: made }: TakenBack, original?: OriginalRow) {
    const ids = { transfer_id: uuidToId("xfer", originalUuid), posting_index: String(index) };
    const note = (reason: string, expected: string, found: string) => notebook.found({ reason, ids, expected, found });
    const posting = original?.postings[index];
    if (original === undefined || posting === undefined) {
      note(
        "REFUND_WITHOUT_POSTING",
        "a posting that is taken back",
        original === undefined ? "no transfer" : "no posting",
      );
      return;
    }
    const [debit, credit, amount, currency] = posting;
    const refunded = remainder?.refunded ?? "0";
    if (refunded !== sum.toString()) note("REFUNDED_WRONG", sum.toString(), refunded);
    if (sum > BigInt(amount)) note("REFUNDED_TOO_MUCH", `at most ${amount}`, sum.toString());
    if (remainder !== undefined && remainder.credited !== amount) {
      note("REMAINDER_UNLIKE_POSTING", amount, remainder.credited ?? "nothing");
    }
    if (remainder?.state === "NOTED" && !(original.reversed_postings ?? []).includes(index)) {
      note("REVERSED_NOT_TOLD", "the transfer says that it is taken back", "it does not");
    }
    for (const { reversalUuid, posting: back } of made) {
      const [expected, found] = [`${credit} to ${debit} ${currency}`, `${back[0]} to ${back[1]} ${back[3]}`];
      if (expected === found) continue;
      const reversalIds = { transfer_id: uuidToId("xfer", reversalUuid), reverses_transfer_id: ids.transfer_id };
      notebook.found({ reason: "REVERSAL_UNLIKE_POSTING", ids: reversalIds, expected, found });
    }
  }

  /** What this shard's transfers were told, and then the remainders where they are. */
  async function checkToldReversals(): Promise<void> {
    let after = FIRST_UUID;
    for (;;) {
      const rows = await reader.ask<OriginalRow>({
        name: "check-told-reversals",
        text: `select transfer_id, postings, reversed_postings from ledger.transfers
                where transfer_id > $1 and reversed_postings is not null order by transfer_id limit ${PAGE_ORIGINALS}`,
        values: [after],
      });
      await checkTold(rows);
      const last = rows.at(-1);
      if (last === undefined || rows.length < PAGE_ORIGINALS) return;
      after = last.transfer_id;
    }
  }

  async function checkTold(rows: readonly OriginalRow[]): Promise<void> {
    const told = rows.flatMap(({ transfer_id, postings, reversed_postings }) =>
      (reversed_postings ?? []).map((index) => {
        const credit = postings[index]?.[1];
        const shard = credit === undefined ? cut.shard : (cut.shardOf[bucketOfUuid(uuidOf(credit))] ?? 0);
        return { transferUuid: transfer_id, index, amount: postings[index]?.[2], shard };
      }),
    );
    for (const [shard, there] of Map.groupBy(told, (one) => one.shard)) {
      const other = others.get(shard);
      if (other === undefined) {
        notebook.couldNot(`shard ${shard} cannot be asked`);
        continue;
      }
      const remaining = await other.ask<{ name: string; refunded: string }>({
        name: "check-remainders",
        text: `select transfer_id || ' ' || posting_index as name, refunded_minor_units as refunded
                 from ledger.refunded_postings where transfer_id = any ($1)`,
        values: [plainArray(there.map(({ transferUuid }) => transferUuid))],
      });
      const refundedOf = new Map(remaining.map(({ name, refunded }) => [name, refunded]));
      for (const { transferUuid, index, amount } of there) {
        const found = refundedOf.get(`${transferUuid} ${index}`) ?? "0";
        if (found === amount) continue;
        const ids = { transfer_id: uuidToId("xfer", transferUuid), posting_index: String(index) };
        notebook.found({ reason: "TOLD_NOT_REVERSED", ids, expected: amount ?? "no such posting", found });
      }
    }
  }
}

const PAGE_ORIGINALS = 1_000;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";
/** Of a reversal that does not say which posting it takes back. */
const NO_POSTING = -1;

type Posting = [debit: string, credit: string, amount: string, currency: string];

/** A reversal, or what of one posting is taken back. */
interface SliceRow extends QueryResultRow {
  readonly reversal: string | null;
  /** Of a reversal an id, else a UUID. */
  readonly original: string;
  readonly indexes: number[] | null;
  readonly postings: Posting[] | null;
  readonly posting_index: number | null;
  readonly credited: string | null;
  readonly refunded: string | null;
  readonly state: string | null;
}

interface TakenBack {
  readonly originalUuid: string;
  readonly index: number;
  /** Of all reversals. */
  sum: bigint;
  remainder: SliceRow | undefined;
  readonly reversals: { readonly reversalUuid: string; readonly posting: Posting }[];
}

interface OriginalRow extends QueryResultRow {
  readonly transfer_id: string;
  readonly postings: Posting[];
  readonly reversed_postings: number[] | null;
}

async function readOriginals(
  reader: ShardReader,
  page: readonly TakenBack[],
): Promise<ReadonlyMap<string, OriginalRow>> {
  const rows = await reader.ask<OriginalRow>({
    name: "check-originals",
    text: "select transfer_id, postings, reversed_postings from ledger.transfers where transfer_id = any ($1)",
    values: [plainArray(page.map(({ originalUuid }) => originalUuid))],
  });
  return new Map(rows.map((row) => [row.transfer_id, row]));
}

async function checkReversedStates(reader: ShardReader, notebook: Notebook): Promise<void> {
  const rows = await reader.ask<OffenderRow>({
    text: offendersOf(`
      select 'STATE_WRONG' as reason, json_build_object('transfer_id', transfer_id) as ids,
             case when coalesce(cardinality(reversed_postings), 0) = json_array_length(postings) then 'REVERSED' else 'POSTED' end
               as expected, state as found
        from ledger.transfers
       where (state <> 'POSTED' or reversed_postings is not null)
         and state <> case when coalesce(cardinality(reversed_postings), 0) = json_array_length(postings) then 'REVERSED' else 'POSTED' end`),
  });
  noteOffenders(notebook, rows);
}
