import assert from "node:assert/strict";
import { openElasticsearch } from "#lib/elasticsearch.ts";
import { uuidToId } from "#lib/ids.ts";
import {
  type AccountDocument,
  ALIASES,
  checkpointId,
  type EntryDocument,
  LIVE_GENERATION,
  readCheckpoints,
  type TransferDocument,
} from "#lib/projection.ts";
import { eventually, postgres, shardNumbers, stack } from "#tests/stack.ts";

/** Holding the projection against the ledger. */

const REQUEST_TIMEOUT_MS = 30_000;
const SCAN_PAGE = 5_000;

export const elasticsearch = openElasticsearch(stack.elasticsearch, REQUEST_TIMEOUT_MS);

/** Number of the shard's last event. */
export async function headOf(shard: number): Promise<bigint> {
  const { rows } = await postgres(shard).query("select sequence from ledger.shard_head");
  return BigInt(rows[0].sequence);
}

/** Number of the last event of the shard that JetStream has acknowledged. */
export async function cursorOf(shard: number): Promise<bigint> {
  const { rows } = await postgres(shard).query("select number from relay.cursor where shard = $1", [shard]);
  return BigInt(rows[0].number);
}

/** Number of the last event of the shard that is visible in Elasticsearch. */
export async function checkpointOf(shard: number): Promise<bigint> {
  const numbers = await readCheckpoints(elasticsearch, ALIASES.checkpoints, [checkpointId(LIVE_GENERATION, shard)]);
  return numbers.get(shard) ?? 0n;
}

/** Waits until all that is committed now is visible; answers the number of each shard's last event, shard 1 first. */
export async function whenProjected(timeoutMs = 60_000): Promise<bigint[]> {
  const heads = await Promise.all(shardNumbers.map(headOf));
  for (const [index, head] of heads.entries()) {
    const shard = index + 1;
    await eventually(
      async () => (await checkpointOf(shard)) >= head,
      `event ${head} of shard ${shard} is visible`,
      timeoutMs,
    );
  }
  return heads;
}

/**
 * Asserts that what is committed now is in Elasticsearch exactly once and equal, to the last field: every entry and every
 * transfer of every shard; and, where nobody else writes (`quiet`), every account.
 * `after`: only of events after these numbers, shard 1 first.
 */
export async function assertProjectionEqualsLedger(options: {
  readonly quiet: boolean;
  readonly after?: readonly bigint[];
}): Promise<void> {
  const heads = await whenProjected();
  for (const shard of shardNumbers) {
    const range: Range = { shard, after: options.after?.[shard - 1] ?? 0n, last: heads[shard - 1] as bigint };
    assertSame(
      await entriesOfLedger(range),
      await scan<EntryDocument>(ALIASES.entries, range, ["account_id", "sequence"], (source) => [
        source.account_id,
        source.sequence,
      ]),
    );
    assertSame(
      await transfersOfLedger(range),
      await scan<TransferDocument>(ALIASES.transfers, range, ["transfer_id"], (source) => [source.transfer_id]),
    );
    if (!options.quiet) continue;
    const accounts = await scan<AccountDocument>(
      ALIASES.accounts,
      { ...range, after: 0n },
      ["account_id"],
      (source) => [source.account_id],
    );
    assertSame(
      await accountsOfLedger(shard),
      accounts.map(({ event_number: _, ...account }) => account),
    );
  }
  const { count } = await elasticsearch.count({ index: ALIASES.holes });
  assert.equal(count, 0, "the projection has holes");
}

/** Events of a shard: after a number, up to and with a number. */
interface Range {
  readonly shard: number;
  readonly after: bigint;
  readonly last: bigint;
}

/** Without `assert.deepEqual` of everything at once: its report of two long lists would take minutes. */
function assertSame(expected: readonly object[], actual: readonly object[]): void {
  const [want, have] = [expected.map(toText).sort(), actual.map(toText).sort()];
  const index = want.findIndex((text, position) => text !== have[position]);
  assert.equal(have[index], want[index]);
  assert.equal(have.length, want.length, `${have.at(want.length)} is too many`);
}

/** JSON with sorted keys, so that equal documents have equal texts. */
function toText(document: object): string {
  return JSON.stringify(document, (_, value: unknown) =>
    typeof value !== "object" || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  );
}

async function scan<Source>(
  index: string,
  { shard, after: afterNumber, last: lastNumber }: Range,
  sortFields: readonly string[],
  sortValues: (source: Source) => string[],
): Promise<Source[]> {
  const numbers = { gt: afterNumber.toString(), lte: lastNumber.toString() };
  const filter = [{ term: { shard } }, { range: { event_number: numbers } }];
  const found: Source[] = [];
  let after: string[] | undefined;
  for (;;) {
    const { hits } = await elasticsearch.search<Source>({
      index,
      size: SCAN_PAGE,
      query: { bool: { filter } },
      sort: sortFields.map((field) => ({ [field]: "asc" as const })),
      ...(after === undefined ? {} : { search_after: after }),
      track_total_hits: false,
    });
    const page = hits.hits.map(({ _source }) => _source as Source);
    found.push(...page);
    const last = page.at(-1);
    if (last === undefined || page.length < SCAN_PAGE) return found;
    after = sortValues(last);
  }
}

const TIME = (column: string) =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as ${column.slice(2)}`;

async function entriesOfLedger({ shard, after, last }: Range): Promise<EntryDocument[]> {
  const { rows } = await postgres(shard).query(
    `select e.account_id, e.sequence::text, e.transfer_id, e.posting_index, e.amount_minor_units::text,
            e.balance_after_minor_units::text, e.currency, t.type, t.memo, e.counterparty_account_id,
            ${TIME("e.post_time")}, ${TIME("e.effective_time")}, t.event_number::text
       from ledger.entries e
       join (select transfer_id, type, memo, event_number from ledger.transfers
             union all
             -- Of transfers from other shards: every leg of this shard names the same event.
             select distinct transfer_id, type, memo, event_number from ledger.remote_legs where state = 'POSTED') t
            using (transfer_id)
      where t.event_number > $1 and t.event_number <= $2`,
    [after.toString(), last.toString()],
  );
  return rows.map((row) => ({
    ...row,
    account_id: uuidToId("acct", row.account_id),
    transfer_id: uuidToId("xfer", row.transfer_id),
    counterparty_account_id: uuidToId("acct", row.counterparty_account_id),
    shard,
  }));
}

async function transfersOfLedger({ shard, after, last }: Range): Promise<TransferDocument[]> {
  const { rows } = await postgres(shard).query(
    `select t.transfer_id, t.state, t.type, t.memo, t.postings, ${TIME("t.post_time")}, ${TIME("t.effective_time")},
            t.event_number::text
       from ledger.transfers t where t.event_number > $1 and t.event_number <= $2`,
    [after.toString(), last.toString()],
  );
  return rows.map(({ postings, ...row }: { postings: [string, string, string, string][] } & TransferDocument) => ({
    ...row,
    transfer_id: uuidToId("xfer", row.transfer_id),
    postings: postings.map(([debit_account_id, credit_account_id, amount_minor_units, currency]) => ({
      debit_account_id,
      credit_account_id,
      amount_minor_units,
      currency,
    })),
    account_ids: [...new Set(postings.flatMap((posting) => posting.slice(0, 2)))],
    shard,
  }));
}

async function accountsOfLedger(shard: number): Promise<Omit<AccountDocument, "event_number">[]> {
  const { rows } = await postgres(shard).query(
    `select account_id, version::text, owner_id, currency, kind, status, posted_minor_units::text,
            held_minor_units::text, floor_minor_units::text, reference
       from ledger.accounts`,
  );
  return rows.map((row) => ({ ...row, account_id: uuidToId("acct", row.account_id), shard }));
}
