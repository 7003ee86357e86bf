import assert from "node:assert/strict";
import { test } from "node:test";
import { uuidToId } from "#lib/ids.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { newKey, newOwner, openAccount, pidOf, readAccount, restUrl } from "#tests/stack.ts";

/** What a malicious client found: each once broke the ledger or misled its caller. */
const LEDGER = `${restUrl}/v1/ledger`;

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  rest(`${LEDGER}/${path}`, { body: JSON.stringify(body), headers: { "idempotency-key": newKey(), ...headers } });

test("a name that is cut in the middle of a character does not end the ledger", async () => {
  const before = pidOf("ledger");
  const metadata = { [`${"k".repeat(39)}😀`]: "v".repeat(201) };
  const error = errorOf(await post("accounts", { currency: "EUR", kind: "WALLET", metadata }));
  assert.deepEqual([error.status, error.reason], [400, "MALFORMED_REQUEST"]);
  assert.equal(pidOf("ledger"), before);
});

test("however much is wrong, the answer is a 400 that names the first fields and how many more there are", async () => {
  const postings = errorOf(await post("transfers", { postings: Array.from({ length: 100 }, () => ({})) }));
  assert.deepEqual([postings.status, postings.fields.length], [400, 10]);
  assert.match(postings.message, /; and 397 more$/);
  const accounts = Array.from({ length: 1_000 }, () => ({ ownerId: newOwner(), currency: "EUX", kind: "WALLET" }));
  const batch = errorOf(await post("accounts:batchCreate", { accounts }));
  assert.deepEqual([batch.status, batch.fields[0]], [400, "accounts[0].currency"]);
});

test("a batch full of malformed transfers answers each of them, and makes the one that is none", async () => {
  const account = await openAccount();
  const good = {
    debit_account_id: "system:cash",
    credit_account_id: account.accountId,
    amount_minor_units: "7",
    currency: "EUR",
  };
  const transfers = Array.from({ length: 2_000 }, () => ({
    idempotency_key: newKey(),
    postings: Array.from({ length: 100 }, () => ({})),
  }));
  const answer = await post("transfers:batch", {
    transfers: [{ idempotency_key: newKey(), postings: [good] }, ...transfers],
  });
  assert.equal(answer.status, 200);
  const { results } = JSON.parse(answer.text) as { results: { transfer?: object; error?: { code: number } }[] };
  assert.ok(results[0]?.transfer);
  assert.ok(results.slice(1).every(({ error }) => error?.code === 3));
  assert.equal((await readAccount(account.accountId)).postedMinorUnits, 7n);
});

test("headers that gRPC would drop are refused, not ignored", async () => {
  const body = { currency: "EUR", kind: "WALLET", idempotency_key: newKey() };
  const key = errorOf(await post("accounts", body, { "idempotency-key": "caf\u00e9" }));
  assert.deepEqual([key.status, key.reason], [400, "IDEMPOTENCY_KEY_MALFORMED"]);
  const read = errorOf(await rest(`${restUrl}/v1/history/entries`, { headers: { "x-read-after": "\u00ff" } }));
  assert.deepEqual([read.status, read.reason], [400, "MALFORMED_REQUEST"]);
});

test("no owner brings an account into a bucket of system accounts", async () => {
  const pinned = uuidToId("user", "019ac000-0000-7f00-8000-000000000001");
  const error = errorOf(await post("accounts", { owner_id: pinned, currency: "EUR", kind: "WALLET" }));
  assert.deepEqual([error.status, error.fields], [400, ["owner_id"]]);
});

test("an empty value in a map does not end the gateway", async () => {
  const before = pidOf("gateway");
  const answer = await post("accounts", { currency: "EUR", kind: "SYSTEM", metadata: { a: "", b: "x" } });
  assert.equal(answer.status, 200, answer.text);
  const account = JSON.parse(answer.text) as { account_id: string; metadata: object };
  assert.deepEqual(account.metadata, { a: "", b: "x" });
  assert.equal((await rest(`${LEDGER}/accounts/${account.account_id}`)).status, 200);
  assert.equal(pidOf("gateway"), before);
});
