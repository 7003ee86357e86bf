import assert from "node:assert/strict";
import { test } from "node:test";
import { bookNameOf, parseBankFile, readBankFile } from "#cli/bank-file.ts";

const NOW_MS = Date.UTC(2026, 10, 21);
const HEADER = "transaction_id,date,account_id,direction,kind,purpose,amount_minor_units,currency";

const parse = (...rows: string[]) => parseBankFile([HEADER, ...rows].join("\n"), NOW_MS, "file.csv");

test("bad rows are named by their line and do not stop the others", () => {
  const file = parse(
    "1,1993-01-01,a,credit,cash_deposit,,100,CZK",
    "2,1993-01-01,a,credit,cash_deposit,,0,CZK",
    "",
    "3,1993-01-01,a,credit,cash_deposit,,100",
    "4,1993-01-01,a,debit,cash_withdrawal,,30,CZK",
  );
  assert.equal(file.rows, 4);
  assert.deepEqual(
    file.badRows.map(({ line, reason }) => [line, reason.slice(0, 30)]),
    [
      [3, 'amount_minor_units is "0": mus'],
      [5, "has 7 columns, not 8"],
    ],
  );
  assert.deepEqual(
    file.transactions.map(({ transactionId, line }) => [transactionId, line]),
    [
      ["1", 2],
      ["4", 6],
    ],
  );
  assert.deepEqual(
    file.accounts.map(({ name, rows, balanceMinorUnits, lowestMinorUnits }) => [
      name,
      rows,
      balanceMinorUnits,
      lowestMinorUnits,
    ]),
    [["a", 2, 70n, 0n]],
  );
});

test("a row said twice counts once; another row under a used id is bad, and says where the first stands", () => {
  const row = "1,1993-01-01,a,credit,cash_deposit,,100,CZK";
  const file = parse(row, row, "1,1993-01-01,a,credit,cash_deposit,,101,CZK");
  assert.equal(file.transactions.length, 1);
  assert.equal(file.repeatedRows, 1);
  assert.deepEqual(file.badRows, [
    { line: 4, reason: "transaction_id 1 stands in line 2 already, with another content" },
  ]);
});

test("a date before the account's previous one is bad; other accounts do not care", () => {
  const file = parse(
    "1,1993-01-03,a,credit,cash_deposit,,100,CZK",
    "2,1993-01-02,a,credit,cash_deposit,,100,CZK",
    "3,1993-01-02,b,credit,cash_deposit,,100,CZK",
    "4,1993-01-03,a,credit,cash_deposit,,100,CZK",
  );
  assert.deepEqual(file.badRows, [
    { line: 3, reason: "date is 1993-01-02, before the account's previous row: 1993-01-03 in line 2" },
  ]);
  // By date, and within a day in the file's order.
  assert.deepEqual(
    file.transactions.map(({ transactionId }) => transactionId),
    ["3", "1", "4"],
  );
});

test("an account has one currency", () => {
  const file = parse("1,1993-01-01,a,credit,cash_deposit,,100,CZK", "2,1993-01-01,a,credit,cash_deposit,,100,EUR");
  assert.deepEqual(file.badRows, [{ line: 3, reason: "currency is EUR, but account a is in CZK: see line 2" }]);
});

test("an account that is overdrawn at times is known by its lowest balance, not by its last", () => {
  const file = parse(
    "1,1993-01-01,a,credit,cash_deposit,,100,CZK",
    "2,1993-01-02,a,debit,cash_withdrawal,,150,CZK",
    "3,1993-01-03,a,credit,cash_deposit,,100,CZK",
  );
  assert.equal(file.accounts[0]?.lowestMinorUnits, -50n);
  assert.equal(file.accounts[0]?.balanceMinorUnits, 50n);
});

test("quotes, a byte order mark, Windows lines and columns in any order are read; a stray quote spoils its row only", () => {
  const text = [
    '\uFEFFcurrency,"kind",date,account_id,direction,transaction_id,amount_minor_units',
    'CZK,"cash_deposit",1993-01-01,a,credit,1,"100"',
    'CZK,"cash_deposit,1993-01-01,a,credit,2,100',
    "CZK,cash_deposit,1993-01-01,a,credit,3,100",
    "",
  ].join("\r\n");
  const file = parseBankFile(text, NOW_MS, "file.csv");
  assert.deepEqual(
    file.transactions.map(({ transactionId, amountMinorUnits }) => [transactionId, amountMinorUnits]),
    [
      ["1", 100n],
      ["3", 100n],
    ],
  );
  assert.equal(file.badRows.length, 1);
  assert.match(file.badRows[0]?.reason ?? "", /^is no CSV: /);
  assert.equal(file.badRows[0]?.line, 3);
});

test("what is no such file at all is said in one line", () => {
  const faults: [string, RegExp][] = [
    ["", /^f is empty\.$/],
    ["\n\n", /^f is empty\.$/],
    [HEADER, /^f has a header and no rows\.$/],
    ["a;b;c\n1;2;3", /lacks transaction_id, date.* and has "a;b;c"/],
    [`${HEADER},colour\n1`, /has "colour" which is unknown or there twice/],
    [`${HEADER},currency\n1`, /has "currency" which is unknown or there twice/],
    [HEADER.replace("date,", ""), /lacks date\. Its columns must be transaction_id,date/],
  ];
  for (const [text, message] of faults) {
    assert.throws(
      () => parseBankFile(text, NOW_MS, "f"),
      (error: Error) =>
        error.constructor.name === "Problem" && message.test(error.message) && !error.message.includes("\n"),
    );
  }
  assert.throws(() => readBankFile("no/such/file.csv", NOW_MS), /There is no file no\/such\/file\.csv\./);
  assert.throws(() => readBankFile(".", NOW_MS), /is a folder/);
});

test("a file's name makes the name of its book", () => {
  assert.equal(bookNameOf("/data/czech-bank-1993.csv"), "czech_bank_1993");
  assert.equal(bookNameOf("Umsätze (Mai).CSV"), "ums_tze_mai");
});
