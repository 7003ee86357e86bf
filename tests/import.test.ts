import assert from "node:assert/strict";
import { test } from "node:test";
import { forEachBounded } from "#cli/bounded.ts";
import { openElasticsearch } from "#lib/elasticsearch.ts";
import { ALIASES } from "#lib/projection.ts";
import { type BankRow, bankExample } from "#tests/bank-files.ts";
import { type ImportJson, importJson, newBook, writeFile } from "#tests/bank-import.ts";
import { rest } from "#tests/rest.ts";
import { postgres, readAccount, restUrl, shardNumbers, stack } from "#tests/stack.ts";

/** The import as a user runs it, and what a user then sees in the ledger and in the history. */

/** The bank rounded the balances that it printed. */
const ROUNDING_MINOR_UNITS = 100n;
const PAGE_SIZE = 500;
const READS_AT_ONCE = 8;
const REQUEST_TIMEOUT_MS = 30_000;

interface HistoryLine {
  readonly account_id: string;
  readonly sequence: string;
  readonly transfer_id: string;
  readonly amount_minor_units: string;
  readonly balance_after_minor_units: string;
}

const bank = bankExample();
const bankPath = writeFile("bank.csv", bank.text);
const bankBook = newBook();
const rowsByAccount: ReadonlyMap<string, BankRow[]> = Map.groupBy(bank.rows, ({ account }) => account);
let imported: ImportJson;

test("every row comes in, on every shard, and the totals are those of the file", async () => {
  const result = await importJson(bankPath, bankBook);
  imported = result;
  assert.deepEqual([result.differences, result.bad_rows], [[], []]);
  assert.deepEqual(
    [result.exitStatus, result.ok, result.rows, result.posted, result.replayed],
    [0, true, bank.rows.length, bank.rows.length, 0],
  );
  assert.deepEqual(
    result.totals.map(({ shard }) => shard),
    shardNumbers,
  );
  assert.ok(result.totals.every(({ accounts }) => accounts > rowsByAccount.size / (2 * shardNumbers.length)));
  const total = (pick: (line: ImportJson["totals"][number]) => string) =>
    result.totals.reduce((sum, line) => sum + BigInt(pick(line)), 0n);
  assert.equal(
    total((line) => line.credits_minor_units),
    bank.credits,
  );
  assert.equal(
    total((line) => line.debits_minor_units),
    bank.debits,
  );
  for (const { accounts_minor_units: own, counterparties_minor_units: other } of result.totals) {
    assert.equal(BigInt(own) + BigInt(other), 0n);
  }
});

test("the accounts that overdraw, and only these, have no floor; every account holds the sum of its rows", async () => {
  const overdrawn: string[] = [];
  for (const [account, rows] of rowsByAccount) {
    let balance = 0n;
    const lowest = rows.reduce((low, { signedMinorUnits }) => {
      balance += signedMinorUnits;
      return balance < low ? balance : low;
    }, 0n);
    if (lowest < 0n) overdrawn.push(account);
  }
  const unbounded: string[] = [];
  assert.equal(imported.accounts.length, rowsByAccount.size);
  await forEachBounded(imported.accounts, READS_AT_ONCE, async ({ account, account_id: accountId }) => {
    const { postedMinorUnits, floorMinorUnits, reference } = await readAccount(accountId);
    const rows = rowsByAccount.get(account) as BankRow[];
    assert.equal(
      postedMinorUnits,
      rows.reduce((sum, { signedMinorUnits }) => sum + signedMinorUnits, 0n),
    );
    assertPublished(postedMinorUnits, rows.at(-1));
    assert.equal(reference, `${bankBook}/${account}`);
    if (floorMinorUnits === undefined) unbounded.push(account);
  });
  assert.ok(overdrawn.length > 0);
  assert.deepEqual(new Set(unbounded), new Set(overdrawn));
});

function assertPublished(balanceMinorUnits: bigint, row: BankRow | undefined): void {
  const off = balanceMinorUnits - (row?.publishedMinorUnits ?? 0n);
  assert.ok(
    off <= ROUNDING_MINOR_UNITS && off >= -ROUNDING_MINOR_UNITS,
    `account ${row?.account}: ${balanceMinorUnits} instead of ${row?.publishedMinorUnits}`,
  );
}

/** All entries of an account in the history over REST, oldest first. */
async function readHistory(accountId: string): Promise<HistoryLine[]> {
  const entries: HistoryLine[] = [];
  let token = "";
  do {
    const query = new URLSearchParams({ account_id: accountId, page_size: String(PAGE_SIZE), page_token: token });
    if (token === "") query.delete("page_token");
    const page = await readPage(`${restUrl}/v1/history/entries?${query}`);
    entries.push(...page.entries);
    token = page.next_page_token;
  } while (token !== "");
  return entries.reverse();
}

const BEHIND = 503;
const MAX_TRIES = 30;

async function readPage(url: string): Promise<{ entries: HistoryLine[]; next_page_token: string }> {
  let text = "";
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const answer = await rest(url, { headers: { "x-read-after": imported.position } });
    text = answer.text;
    if (answer.status === 200) return JSON.parse(text) as { entries: HistoryLine[]; next_page_token: string };
    // The query waits for the projection for two seconds only.
    assert.equal(answer.status, BEHIND, text);
  }
  throw new Error(`the history stayed behind: ${text}`);
}

test("the history shows every row with the balance that the bank printed, and each entry exactly once", async () => {
  const seen = new Set<string>();
  const transfers = new Map<string, number>();
  const note = (entries: readonly HistoryLine[]) => {
    let balance = 0n;
    for (const [index, entry] of entries.entries()) {
      balance += BigInt(entry.amount_minor_units);
      assert.equal(entry.sequence, String(index + 1));
      assert.equal(entry.balance_after_minor_units, balance.toString());
      seen.add(`${entry.account_id} ${entry.sequence}`);
      transfers.set(entry.transfer_id, (transfers.get(entry.transfer_id) ?? 0) + 1);
    }
  };
  await forEachBounded(imported.accounts, READS_AT_ONCE, async ({ account, account_id: accountId }) => {
    const entries = await readHistory(accountId);
    const rows = rowsByAccount.get(account) as BankRow[];
    assert.equal(entries.length, rows.length);
    note(entries);
    for (const [index, row] of rows.entries()) {
      assert.equal(entries[index]?.amount_minor_units, row.signedMinorUnits.toString());
      assertPublished(BigInt(entries[index]?.balance_after_minor_units ?? 0), row);
    }
  });
  await forEachBounded(imported.counterparties, READS_AT_ONCE, async ({ account_id: accountId }) =>
    note(await readHistory(accountId)),
  );
  assert.equal(seen.size, 2 * bank.rows.length);
  assert.equal(transfers.size, bank.rows.length);
  assert.ok([...transfers.values()].every((entries) => entries === 2));

  const elasticsearch = openElasticsearch(stack.elasticsearch, REQUEST_TIMEOUT_MS);
  const accountIds = [...imported.accounts, ...imported.counterparties].map(({ account_id: accountId }) => accountId);
  const { count } = await elasticsearch.count({
    index: ALIASES.entries,
    query: { terms: { account_id: accountIds } },
  });
  assert.equal(count, 2 * bank.rows.length);
  await elasticsearch.close();
});

/** Of a book, on all shards: accounts, their versions and their entries. */
async function bookState(book: string): Promise<unknown[]> {
  const rows = await Promise.all(
    stack.shards.map((_, index) =>
      postgres(index + 1).query(
        `select count(*) as accounts, sum(version) as versions, sum(entry_sequence) as entries
           from ledger.accounts where reference like $1 or reference like $2`,
        [`${book}/%`, `system:${book}\\_%`],
      ),
    ),
  );
  return rows.map(({ rows: [row] }) => row);
}

test("repeating the import changes nothing", async () => {
  const before = await bookState(bankBook);
  const again = await importJson(bankPath, bankBook);
  assert.deepEqual([again.exitStatus, again.posted, again.replayed], [0, bank.rows.length, bank.rows.length]);
  assert.deepEqual(again.totals, imported.totals);
  assert.deepEqual(again.accounts, imported.accounts);
  assert.deepEqual(await bookState(bankBook), before);
});
