import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { HEADER, madeUpFile } from "#tests/bank-files.ts";
import { folder, importJson, newBook, writeFile } from "#tests/bank-import.ts";
import { ledgermesh, run } from "#tests/command-line.ts";
import { stack, transfer } from "#tests/stack.ts";

/** Imports that do not go as they should: what comes in, what is said, and what a repeated command does. */

const ROW = "2001-01-01,A,credit,cash_deposit,,100,100,CZK,,";

test("bad rows are named by their lines and left out; the mended file brings in what was missing", async () => {
  const rows = [
    `1,${ROW}`,
    `2,${ROW.replace(",100,", ",-100,")}`,
    `3,${ROW.replace("CZK", "ABC")}`,
    `4,2001-01-01,A,credit`,
    `1,${ROW.replace(",100,", ",200,")}`,
    `5,${ROW.replace("2001-01-01", "2000-12-31")}`,
    `6,${ROW.replace("credit,cash_deposit", "debit,bank_transfer_out")}`,
    `7,${ROW.replace(",A,", ",B,")}`,
  ];
  const book = newBook();
  const path = writeFile("bad.csv", [HEADER, ...rows].join("\n"));
  const { exitStatus, stdout } = await ledgermesh(["import", path, "--book", book]);
  assert.equal(exitStatus, 1);
  for (const line of [3, 4, 5, 6, 7, 8]) assert.match(stdout, new RegExp(`^ {2}line ${line}: `, "m"));
  assert.match(stdout, /2 rows are in the ledger \(0 of them were before\).*6 left out/);
  assert.match(stdout, /^OK, but for the rows left out/m);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
  assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f]/);

  const mended = [HEADER, ...[1, 2, 3, 4, 5, 6].map((id) => `${id},${ROW}`), rows.at(-1)];
  const second = await importJson(writeFile("mended.csv", mended.join("\n")), book);
  assert.deepEqual([second.exitStatus, second.posted, second.replayed, second.differences], [0, 7, 2, []]);
});

test("what the ledger refuses is named by its line as well, and remembered", async () => {
  const book = newBook();
  const first = writeFile("first.csv", [HEADER, `1,${ROW}`].join("\n"));
  assert.equal((await importJson(first, book)).exitStatus, 0);
  // The account was opened with a floor; the longer file overdraws it.
  const longer = [
    HEADER,
    `1,${ROW}`,
    `2,${ROW.replace("credit,cash_deposit,,100", "debit,cash_withdrawal,,101")}`,
    `3,${ROW}`,
  ];
  for (const replayed of [1, 2]) {
    const result = await importJson(writeFile("longer.csv", longer.join("\n")), book);
    assert.deepEqual([result.exitStatus, result.posted, result.replayed, result.differences], [1, 2, replayed, []]);
    assert.equal(result.bad_rows[0]?.line, 3);
    assert.match(result.bad_rows[0]?.reason ?? "", /^refused by the ledger: Account .* 101 are needed\.$/);
  }
});

test("money that something else moved on an imported account is found and named", async () => {
  const book = newBook();
  const path = writeFile("moved.csv", [HEADER, `1,${ROW}`].join("\n"));
  const { accounts } = await importJson(path, book);
  const accountId = accounts[0]?.account_id as string;
  await transfer(accountId, "system:elsewhere", 1n, { currency: "CZK" });
  const result = await importJson(path, book);
  assert.equal(result.exitStatus, 1);
  assert.equal(result.differences.length, 2);
  assert.match(
    result.differences[0] ?? "",
    new RegExp(`^account A \\(${accountId}\\) holds 0\\.99 CZK; its rows come to 1\\.00 CZK`),
  );
});

test("Ctrl-C stops in order and says how to go on; the repeated command brings in the rest", async () => {
  const rows = 10_000;
  const path = writeFile("long.csv", madeUpFile(3, rows, 50));
  const book = newBook();
  const stopped = await ledgermesh(["import", path, "--book", book], "Rows: ");
  assert.equal(stopped.exitStatus, 130, stopped.stdout);
  assert.match(
    stopped.stderr,
    /^Stopped\. [\d,]+ of 10,000 rows are known to be in\. To go on, repeat the same command/,
  );
  const rest = await importJson(path, book);
  assert.deepEqual([rest.exitStatus, rest.posted, rest.differences], [0, rows, []]);
  assert.ok(rest.replayed > 0 && rest.replayed < rows, `${rest.replayed} rows were in`);
});

test("two imports of the same file at once bring in each row once", async () => {
  const path = writeFile("twice.csv", madeUpFile(4, 2_000, 50));
  const book = newBook();
  const results = await Promise.all([importJson(path, book), importJson(path, book)]);
  for (const { exitStatus, posted, differences } of results)
    assert.deepEqual([exitStatus, posted, differences], [0, 2_000, []]);
  assert.equal(
    results.reduce((sum, { posted, replayed }) => sum + posted - replayed, 0),
    2_000,
  );
});

test("when nothing can be imported, one line says why, and the exit status is 2", async () => {
  const good = writeFile("good.csv", [HEADER, `1,${ROW}`].join("\n"));
  const faults: [string[], RegExp][] = [
    [["import", join(folder, "missing.csv"), "--ledger", stack.ledger], /^There is no file /],
    [["import", writeFile("empty.csv", ""), "--ledger", stack.ledger], /^empty\.csv is empty\.$/],
    [
      ["import", writeFile("other.txt", "a,b\n1,2\n"), "--ledger", stack.ledger],
      /^The first line of other\.txt lacks /,
    ],
    [["import", good, "--ledger", "127.0.0.1:1"], /^No ledger answers at 127\.0\.0\.1:1\. Start it with: make start/],
    [["import", good, "--book", "No Book"], /^"No Book" is no name for a book/],
  ];
  for (const [args, message] of faults) {
    const { exitStatus, stderr } = await run(args);
    assert.equal(exitStatus, 2, stderr);
    assert.match(stderr.trimEnd(), message);
    assert.equal(stderr.trimEnd().includes("\n"), false);
  }
});
