import assert from "node:assert/strict";
import { test } from "node:test";
import { parseBankFile } from "#cli/bank-file.ts";
import { counterpartyOf } from "#cli/book.ts";
import { compareTotals } from "#cli/check-totals.ts";
import type { OpenedAccount } from "#cli/ledger.ts";
import { startTally } from "#cli/tally.ts";
import { Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";

const FILE = parseBankFile(
  [
    "transaction_id,date,account_id,direction,kind,amount_minor_units,currency",
    "1,1993-01-01,a,credit,cash_deposit,100,CZK",
    "2,1993-01-01,b,credit,cash_deposit,70,CZK",
    "3,1993-01-02,a,debit,cash_withdrawal,30,CZK",
  ].join("\n"),
  Date.UTC(2026, 0, 1),
  "file",
);
const opened = new Map<string, OpenedAccount>([
  ["a", { accountId: "acct_a", currency: "CZK", shard: 1, replayed: false }],
  ["b", { accountId: "acct_b", currency: "CZK", shard: 2, replayed: false }],
]);
const RIGHT = { acct_a: 70n, acct_b: 70n, acct_cash1: -70n, acct_cash2: -70n };

/** The tally after the rows of these lines were posted. */
function tallyOf(lines: readonly number[]) {
  const tally = startTally(opened);
  for (const transaction of FILE.transactions.filter(({ line }) => lines.includes(line))) {
    const account = opened.get(transaction.account) as OpenedAccount;
    const cash = `acct_cash${account.shard}`;
    const [debitAccountId, creditAccountId] =
      transaction.direction === "credit" ? [cash, account.accountId] : [account.accountId, cash];
    const { amountMinorUnits, currency } = transaction;
    const transfer = Transfer.fromPartial({
      postings: [{ debitAccountId, creditAccountId, amountMinorUnits, currency }],
    });
    tally.add(transaction.account, account, counterpartyOf(transaction), transfer);
  }
  return [...tally.accounts.values()];
}

const compare = (lines: readonly number[], balances: Record<string, bigint>, refusedLines: number[] = []) =>
  compareTotals(tallyOf(lines), new Map(Object.entries(balances)), FILE, new Set(refusedLines));

test("when all is in, nothing differs, and each shard comes to zero by itself", () => {
  const { differences, lines } = compare([2, 3, 4], RIGHT);
  assert.deepEqual(differences, []);
  assert.deepEqual(
    lines.map((line) => [
      line.shard,
      line.accounts,
      line.creditsMinorUnits,
      line.debitsMinorUnits,
      line.accountsMinorUnits,
    ]),
    [
      [1, 1, 100n, 30n, 70n],
      [2, 1, 70n, 0n, 70n],
    ],
  );
});

test("a balance that something else has changed is named, and a shard that does not come to zero", () => {
  const { differences } = compare([2, 3, 4], { ...RIGHT, acct_a: 71n });
  assert.equal(differences.length, 2);
  assert.match(differences[0] ?? "", /^account a \(acct_a\) holds 0\.71 CZK; its rows come to 0\.70 CZK/);
  assert.match(differences[1] ?? "", /^shard 1: accounts and counterparties come to 0\.01 CZK, not to zero$/);
});

test("a row that is in the file and not in the ledger is missed, unless the ledger refused it", () => {
  const balances = { ...RIGHT, acct_a: 100n, acct_cash1: -100n };
  assert.deepEqual(compare([2, 3], balances).differences, [
    "debits: the ledger took 0.00 CZK; the rows of the file come to 0.30 CZK",
  ]);
  assert.deepEqual(compare([2, 3], balances, [4]).differences, []);
});
