import assert from "node:assert/strict";
import { test } from "node:test";
import { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { isGroup, parseBatch } from "#services/ledger/parse-batch.ts";

let keys = 0;

/** A transfer of the group with so many postings, and with these system accounts. */
function item(group: string, postings = 1, debitAccountId = "acct_1"): CreateTransferRequest {
  keys += 1;
  return CreateTransferRequest.fromPartial({
    idempotencyKey: `key-${keys}`,
    group,
    postings: Array.from({ length: postings }, () => ({ debitAccountId, creditAccountId: "acct_2", currency: "EUR" })),
  });
}

const shapes = (groups: readonly string[]) =>
  parseBatch(groups.map((group) => item(group))).map((unit) => (isGroup(unit) ? unit.length : "single"));

test("transfers of one group that stand side by side are one unit, and the order is kept", () => {
  assert.deepEqual(shapes(["", "a", "a", "", "b", "c", "c"]), ["single", 2, "single", 1, 2]);
  assert.deepEqual(shapes(["", ""]), ["single", "single"]);
});

test("a group that begins again, is named wrongly or has more than 100 postings is refused with its place", () => {
  const refused = (items: CreateTransferRequest[], field: string, message: RegExp) =>
    assert.throws(
      () => parseBatch(items),
      (error: Error & { status: string; violations: { field: string }[] }) => {
        assert.equal(error.status, "INVALID_ARGUMENT");
        assert.deepEqual(
          error.violations.map((violation) => violation.field),
          [field],
        );
        assert.match(error.message, message);
        return true;
      },
    );
  refused([item("a"), item(""), item("a")], "transfers[2].group", /has ended with transfers\[0\]/);
  refused([item("a"), item("b"), item("b"), item("a")], "transfers[3].group", /side by side/);
  for (const group of ["with space", "x".repeat(41), "é", "a/b"])
    refused([item(group)], "transfers[0].group", /1 to 40/);
  refused([item("a", 60), item("a", 40), item("a", 1)], "transfers[2].group", /101 postings/);
  parseBatch([item("a", 60), item("a", 40), item("b", 100), item("x".repeat(40)), item("A-_9")]);
});

test("a call names up to 1,000 system accounts, each once however often", () => {
  const named = (count: number) => Array.from({ length: 2_000 }, (_, index) => item("", 1, `system:t${index % count}`));
  assert.equal(parseBatch(named(1_000)).length, 2_000);
  assert.throws(() => parseBatch(named(1_001)), /name 1001 system accounts .*may name 1000: make several calls/);
});
