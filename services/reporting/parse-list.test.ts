import assert from "node:assert/strict";
import { test } from "node:test";
import { idGenerator } from "#lib/ids.ts";
import { Refusal } from "#lib/refusal.ts";
import { type ListRequest, parseList } from "#services/reporting/parse-list.ts";

const accountId = idGenerator(Date.now)("acct", 7);
const NOTHING: ListRequest = { accountId: "", from: undefined, to: undefined, type: "", pageSize: 0 };

test("a request without filters is a request for the first 50 of all", () => {
  const filters = { accountId: undefined, from: undefined, to: undefined, type: undefined };
  assert.deepEqual(parseList(NOTHING), { filters, pageSize: 50 });
});

test("filters are taken as given", () => {
  const from = new Date("1993-01-01T00:00:00Z");
  const parsed = parseList({ accountId, from, to: from, type: "card_payment", pageSize: 500 });
  const time = "1993-01-01T00:00:00.000Z";
  assert.deepEqual(parsed, { filters: { accountId, from: time, to: time, type: "card_payment" }, pageSize: 500 });
});

test("every malformed field is named at once", () => {
  const malformed: [Partial<ListRequest>, string[]][] = [
    [{ accountId: "acct_1" }, ["account_id"]],
    [{ accountId: accountId.replace("acct", "user") }, ["account_id"]],
    [{ accountId: accountId.toUpperCase() }, ["account_id"]],
    [{ type: "Card Payment" }, ["type"]],
    [{ type: "x".repeat(41) }, ["type"]],
    [{ pageSize: -1 }, ["page_size"]],
    [{ pageSize: 501 }, ["page_size"]],
    [{ from: new Date(Number.NaN) }, ["from"]],
    [{ to: new Date(Date.UTC(10_000, 0)) }, ["to"]],
    [{ from: new Date(2), to: new Date(1) }, ["to"]],
    [{ accountId: "x", type: "-", pageSize: 1_000 }, ["account_id", "type", "page_size"]],
  ];
  for (const [request, fields] of malformed) {
    assert.throws(
      () => parseList({ ...NOTHING, ...request }),
      (error) => {
        assert.ok(error instanceof Refusal);
        assert.equal(error.status, "INVALID_ARGUMENT");
        assert.deepEqual(
          error.violations.map(({ field }) => field),
          fields,
        );
        return true;
      },
    );
  }
});
