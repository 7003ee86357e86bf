import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ListAccountEntriesRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { ListEntriesRequest } from "#proto/ledgermesh/reporting/v1/history.ts";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { errorOf, rest } from "#tests/rest.ts";

/** check-query.lua inside a real Envoy, in front of services that take everything. */

const INVALID_ARGUMENT = 3;
let gateway: GatewayProcess;

before(async () => {
  gateway = await startGateway();
});

after(() => gateway.stop());

test("parameters arrive decoded, by either form of their names", async () => {
  const query =
    "account_id=a%26b%C3%A4&pageSize=5&&from=2026-01-01T00:00:00%2B02:00&type=a+b&to=2026-02-01T00:00:00.5Z&";
  assert.equal((await rest(`${gateway.url}/v1/history/entries?${query}`)).status, 200);
  assert.deepEqual(gateway.seen.at(-1)?.request, {
    accountId: "a&bä",
    from: new Date("2025-12-31T22:00:00Z"),
    to: new Date("2026-02-01T00:00:00.5Z"),
    type: "a b",
    pageSize: 5,
    pageToken: "",
  } satisfies ListEntriesRequest);

  assert.equal((await rest(`${gateway.url}/v1/ledger/accounts/acct%5Fa/entries?page_size=-1`)).status, 200);
  assert.deepEqual(gateway.seen.at(-1)?.request, {
    accountId: "acct_a",
    pageSize: -1,
    pageToken: "",
  } satisfies ListAccountEntriesRequest);
  assert.equal((await rest(`${gateway.url}/v1/history/entries?`)).status, 200);
});

test("a parameter that is unknown, repeated or malformed is refused by name", async () => {
  const entries = "/v1/history/entries";
  const cases: [path: string, reason: string, field: string, description: RegExp][] = [
    [`${entries}?acount_id=a`, "UNKNOWN_FIELD", "acount_id", /no such query parameter; did you mean account_id\?$/],
    [`${entries}?page_size=1&colour`, "UNKNOWN_FIELD", "colour", /no such query parameter$/],
    [`${entries}?%66oo=1`, "UNKNOWN_FIELD", "foo", /no such query parameter$/],
    [`${entries}?from.seconds=1`, "UNKNOWN_FIELD", "from.seconds", /no such query parameter$/],
    [`/v1/ledger/accounts/a?account_id=b`, "UNKNOWN_FIELD", "account_id", /no such query parameter$/],
    [`${entries}?page_size=1&pageSize=1`, "DUPLICATE_FIELD", "page_size", /given twice/],
    [`${entries}?page_size=abc`, "MALFORMED_REQUEST", "page_size", /must be an integer/],
    [`${entries}?page_size=`, "MALFORMED_REQUEST", "page_size", /must be an integer/],
    [`${entries}?page_size=1.5`, "MALFORMED_REQUEST", "page_size", /must be an integer/],
    [`${entries}?page_size=2147483648`, "MALFORMED_REQUEST", "page_size", /from -2147483648 to 2147483647/],
    [`${entries}?from=yesterday`, "MALFORMED_REQUEST", "from", /RFC 3339/],
    [`${entries}?from=2026-01-01T00:00:00+02:00`, "MALFORMED_REQUEST", "from", /RFC 3339/],
    [`${entries}?type=%`, "MALFORMED_REQUEST", "type", /URL-encoded/],
    [`${entries}?type=%ff`, "MALFORMED_REQUEST", "type", /URL-encoded/],
  ];
  for (const [path, reason, field, description] of cases) {
    const seenBefore = gateway.seen.length;
    const error = errorOf(await rest(gateway.url + path));
    assert.deepEqual([error.status, error.code, error.reason], [400, INVALID_ARGUMENT, reason], path);
    assert.deepEqual(error.fields, [field]);
    assert.match(error.description, description);
    assert.equal(gateway.seen.length, seenBefore);
  }
});

test("a command takes no parameters beside its body", async () => {
  const error = errorOf(await rest(`${gateway.url}/v1/ledger/transfers?memo=x`, { body: "{}" }));
  assert.deepEqual([error.status, error.reason, error.fields], [400, "UNKNOWN_FIELD", ["memo"]]);
});

test("the number of parameters is bounded", async () => {
  const error = errorOf(await rest(`${gateway.url}/v1/history/entries?${"&".repeat(200)}`));
  assert.deepEqual([error.status, error.reason], [400, "MALFORMED_REQUEST"]);
});
