import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { BankAccount } from "#cli/bank-file.ts";
import { type BankTransaction, parseTransaction } from "#cli/bank-transaction.ts";
import { accountRequest, BOOK_PATTERN, counterpartyOf, ownerIdOf, transferRequestOf } from "#cli/book.ts";
import { FieldCheck } from "#lib/fields.ts";
import { FIRST_PINNED_BUCKET, idGenerator, parseId } from "#lib/ids.ts";
import { evenBucketRanges, shardOfBucket } from "#lib/shards.ts";
import { parseAccountRequest } from "#services/ledger/parse-account.ts";
import { parseTransfer } from "#services/ledger/parse-transfer.ts";

const NOW_MS = Date.UTC(2026, 10, 21);
const accountId = idGenerator(() => NOW_MS)("acct", 1);

const book = fc.stringMatching(/^[a-z][a-z0-9_]{0,23}$/);
const row = fc.record({
  transaction_id: fc.stringMatching(/^[!-~]{1,80}$/),
  date: fc.constantFrom("1993-01-01", "2024-02-29"),
  account_id: fc.stringMatching(/^[A-Za-z0-9._-]{1,39}$/),
  direction: fc.constantFrom("credit", "debit"),
  kind: fc.oneof(fc.constantFrom("cash_deposit", "bank_transfer_in"), fc.stringMatching(/^[a-z][a-z0-9_]{0,30}$/)),
  purpose: fc.oneof(
    fc.constantFrom("", "interest", "statement_fee", "penalty_interest"),
    fc.stringMatching(/^[a-z0-9_]{1,40}$/),
  ),
  amount_minor_units: fc.bigInt(1n, 2n ** 63n - 1n).map(String),
  currency: fc.constantFrom("CZK", "JPY", "KWD"),
  counterparty_bank: fc.stringMatching(/^[A-Za-z0-9]{1,20}$/),
  counterparty_account: fc.string(),
  published_balance_minor_units: fc.string(),
});

test("whatever row the import takes, the ledger takes the request that is made of it", () => {
  fc.assert(
    fc.property(book, row, (bookName, columns) => {
      assert.match(bookName, BOOK_PATTERN);
      const parsed = parseTransaction((column) => columns[column], 2, NOW_MS);
      assert.equal(parsed.kind, "good");
      const { transaction } = parsed as { transaction: BankTransaction };
      const request = transferRequestOf(bookName, transaction, accountId);
      const transfer = parseTransfer(request);
      assert.equal(transfer.postings[0]?.amountMinorUnits.toString(), columns.amount_minor_units);
      assert.match(request.idempotencyKey, /^[!-~]{1,128}$/);

      const check = new FieldCheck();
      const account: BankAccount = {
        name: transaction.account,
        currency: transaction.currency,
        firstLine: 2,
        rows: 1,
        balanceMinorUnits: 0n,
        lowestMinorUnits: 0n,
      };
      const opening = accountRequest(bookName, account, true);
      assert.equal(parseAccountRequest(check, "", opening).floorMinorUnits, undefined);
      check.done();
      assert.match(opening.idempotencyKey, /^[!-~]{1,128}$/);
    }),
  );
});

test("the same account of the same book has the same owner, for ever", () => {
  assert.equal(ownerIdOf("czech_bank_1993", "576"), "user_01kdvdna00enh8ktynty0bshm5");
  assert.notEqual(ownerIdOf("another", "576"), ownerIdOf("czech_bank_1993", "576"));
});

test("owners are ids that the ledger takes, all different, spread over the shards and away from pinned buckets", () => {
  const map = { version: 1, ranges: evenBucketRanges(2) };
  const ids = Array.from({ length: 2_000 }, (_, index) => ownerIdOf("book", String(index)));
  assert.equal(new Set(ids).size, ids.length);
  const buckets = ids.map((id) => parseId(id, "user")?.bucket ?? Number.NaN);
  assert.ok(buckets.every((bucket) => bucket >= 0 && bucket < FIRST_PINNED_BUCKET));
  const onFirst = buckets.filter((bucket) => shardOfBucket(map, bucket) === 1).length;
  assert.ok(onFirst > 900 && onFirst < 1_100, `${onFirst} of 2,000 are on shard 1`);
});

test("the other side is cash, another bank, or the bank's own income and expense", () => {
  const of = (kind: string, purpose = "", counterpartyBank = "") =>
    counterpartyOf({ kind, purpose, counterpartyBank } as BankTransaction);
  assert.equal(of("cash_deposit"), "cash");
  assert.equal(of("cash_withdrawal", "household"), "cash");
  assert.equal(of("cash_withdrawal", "statement_fee"), "fees");
  assert.equal(of("cash_withdrawal", "penalty_interest"), "penalties");
  assert.equal(of("interest", "interest"), "interest");
  assert.equal(of("bank_transfer_out", "household", "YZ"), "bank_yz");
  assert.equal(of("card_payment"), "card_payment");
});

test("a row becomes a transfer in the right direction, at midnight of its day, under the book's own counterparty", () => {
  const transaction: BankTransaction = {
    line: 2,
    transactionId: "9",
    date: "1993-01-05",
    account: "576",
    direction: "debit",
    kind: "bank_transfer_out",
    purpose: "household",
    amountMinorUnits: 5n,
    currency: "CZK",
    counterpartyBank: "YZ",
  };
  const request = transferRequestOf("old", transaction, accountId);
  assert.deepEqual(request.postings, [
    { debitAccountId: accountId, creditAccountId: "system:old_bank_yz", amountMinorUnits: 5n, currency: "CZK" },
  ]);
  assert.deepEqual(
    [request.type, request.memo, request.effectiveTime?.toISOString(), request.idempotencyKey],
    ["household", "bank_transfer_out, bank YZ", "1993-01-05T00:00:00.000Z", "import/old/9"],
  );
  const credit = transferRequestOf("old", { ...transaction, direction: "credit" }, accountId);
  assert.equal(credit.postings[0]?.debitAccountId, "system:old_bank_yz");
});
