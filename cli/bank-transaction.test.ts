import assert from "node:assert/strict";
import { test } from "node:test";
import { type Column, parseTransaction, signedMinorUnits } from "#cli/bank-transaction.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const GOOD = {
  transaction_id: "171812",
  date: "1993-01-05",
  account_id: "576",
  direction: "credit",
  kind: "bank_transfer_in",
  purpose: "pension",
  amount_minor_units: "90000",
  currency: "CZK",
  counterparty_bank: "YZ",
  counterparty_account: "62457513",
  published_balance_minor_units: "-1",
} satisfies Record<Column, string>;

function parse(change: Partial<Record<Column, string>>) {
  const row: Record<Column, string> = { ...GOOD, ...change };
  return parseTransaction((column) => row[column], 7, NOW_MS);
}

test("a good row is read, with its line and without the counterparty's account", () => {
  const parsed = parse({});
  assert.deepEqual(parsed, {
    kind: "good",
    transaction: {
      line: 7,
      transactionId: "171812",
      date: "1993-01-05",
      account: "576",
      direction: "credit",
      kind: "bank_transfer_in",
      purpose: "pension",
      amountMinorUnits: 90_000n,
      currency: "CZK",
      counterpartyBank: "YZ",
    },
  });
  assert.equal(parsed.kind === "good" && signedMinorUnits(parsed.transaction), 90_000n);
});

test("a debit counts below zero, and the largest 64-bit amount loses nothing", () => {
  const parsed = parse({ direction: "debit", amount_minor_units: "9223372036854775807" });
  assert.equal(parsed.kind === "good" && signedMinorUnits(parsed.transaction), -9_223_372_036_854_775_807n);
});

test("every fault of a row is named, with the value that was found", () => {
  const faults: [Partial<Record<Column, string>>, RegExp][] = [
    [{ transaction_id: "" }, /^transaction_id is missing$/],
    [{ transaction_id: "1 2" }, /^transaction_id is "1 2": must be/],
    [{ date: "1993-02-30" }, /^date is "1993-02-30": must be a day/],
    [{ date: "5.1.1993" }, /^date is/],
    [{ date: "2026-11-22" }, /^date is "2026-11-22": lies in the future$/],
    [{ account_id: "" }, /^account_id is ""/],
    [{ account_id: "5/6" }, /^account_id is/],
    [{ direction: "CREDIT" }, /^direction is "CREDIT": must be credit or debit$/],
    [{ kind: "Cash" }, /^kind is/],
    [{ kind: "k".repeat(32) }, /^kind is/],
    [{ purpose: "a b" }, /^purpose is/],
    [{ amount_minor_units: "0" }, /^amount_minor_units is "0": must be a whole number above zero/],
    [{ amount_minor_units: "-5" }, /^amount_minor_units is "-5"/],
    [{ amount_minor_units: "1.5" }, /^amount_minor_units is/],
    [{ amount_minor_units: "" }, /^amount_minor_units is/],
    [{ amount_minor_units: "9223372036854775808" }, /^amount_minor_units is/],
    [{ currency: "XXX" }, /^currency is "XXX": is no ISO 4217 currency, or a withdrawn one$/],
    [{ currency: "BGN" }, /^currency is "BGN"/],
    [{ currency: "czk" }, /^currency is/],
    [{ counterparty_bank: "Y-Z" }, /^counterparty_bank is/],
    [{ counterparty_bank: "" }, /^counterparty_bank is missing/],
    [{ direction: "in", amount_minor_units: "x" }, /^direction is "in".*; amount_minor_units is "x"/],
  ];
  for (const [change, reason] of faults) {
    const parsed = parse(change);
    assert.match(parsed.kind === "bad" ? parsed.reason : "good", reason);
  }
});

test("a stray value neither fills the screen nor reaches it as control characters", () => {
  const parsed = parse({ currency: `\u001b[2J${"x".repeat(10_000)}` });
  assert.ok(parsed.kind === "bad" && parsed.reason.length < 200);
  assert.ok(!parsed.reason.includes("\u001b"));
});
