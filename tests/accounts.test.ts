import assert from "node:assert/strict";
import { after, test } from "node:test";
import { type AccountDocument, ALIASES } from "#lib/projection.ts";
import { elasticsearch, whenProjected } from "#tests/projection.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { newKey, newOwner, restUrl } from "#tests/stack.ts";

const ACCOUNTS = `${restUrl}/v1/ledger/accounts`;

after(() => elasticsearch.close());

interface AccountBody {
  readonly account_id: string;
  readonly status: string;
  readonly version: string;
}

async function post(path: string, body: object): Promise<AccountBody> {
  const answer = await rest(ACCOUNTS + path, { body: JSON.stringify(body), headers: { "idempotency-key": newKey() } });
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(answer.text);
}

async function statusInHistory(accountId: string): Promise<string | undefined> {
  await whenProjected();
  const query = { term: { account_id: accountId } };
  const { hits } = await elasticsearch.search<AccountDocument>({ index: ALIASES.accounts, query });
  return hits.hits[0]?._source?.status;
}

test("an account's life over REST: opened, listed, frozen, unfrozen and closed, and the projection follows", async () => {
  const ownerId = newOwner(2);
  const { account_id: id } = await post("", { owner_id: ownerId, currency: "EUR", kind: "WALLET", reference: "main" });
  const listed = async (query: string) => {
    const { status, text } = await rest(`${ACCOUNTS}?owner_id=${ownerId}${query}`);
    assert.equal(status, 200, text);
    return (JSON.parse(text) as { accounts: AccountBody[] }).accounts.map(({ account_id, status }) => [
      account_id,
      status,
    ]);
  };
  for (const [change, body, status] of [
    ["freeze", { reason: "asked for by the owner" }, "FROZEN"],
    ["unfreeze", {}, "ACTIVE"],
    ["close", { reason: "moved away" }, "CLOSED"],
  ] as const) {
    assert.equal((await post(`/${id}:${change}`, body)).status, status);
    assert.deepEqual(await listed(""), [[id, status]]);
    assert.deepEqual(await listed("&reference=main&page_size=1"), [[id, status]]);
    assert.equal(await statusInHistory(id), status);
  }
  assert.deepEqual(await listed("&reference=other"), []);
  const again = await rest(`${ACCOUNTS}/${id}:freeze`, { body: "{}", headers: { "idempotency-key": newKey() } });
  const { status, code, reason } = errorOf(again);
  assert.deepEqual([status, code, reason], [400, 9, "ACCOUNT_CLOSED"]);
  assert.deepEqual(errorOf(await rest(ACCOUNTS)).fields, ["owner_id"]);
});
