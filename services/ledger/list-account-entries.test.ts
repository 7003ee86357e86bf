import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import type { Entry } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newId, openAccount, openFunded, postgres, transfer } from "#tests/stack.ts";

function page(accountId: string, pageSize = 0, pageToken = "") {
  return call(ledger, ledger.listAccountEntries, { accountId, pageSize, pageToken }).then(({ response }) => response);
}

test("pages hold every entry once, newest first, also while new ones arrive", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  for (let amount = 1n; amount <= 25n; amount += 1n)
    await transfer(payer.accountId, payee.accountId, amount, { memo: `no ${amount}`, type: "gift" });
  const entries: Entry[] = [];
  let token = "";
  do {
    const { entries: some, nextPageToken, hasMore } = await page(payee.accountId, 10, token);
    entries.push(...some);
    assert.equal(hasMore, nextPageToken !== "");
    token = nextPageToken;
    await transfer(payer.accountId, payee.accountId, 1n);
  } while (token !== "");
  assert.deepEqual(
    entries.map(({ sequence }) => sequence),
    Array.from({ length: 25 }, (_, index) => BigInt(25 - index)),
  );
  let balance = 0n;
  for (const entry of entries.toReversed()) {
    balance += entry.amountMinorUnits;
    assert.equal(entry.balanceAfterMinorUnits, balance);
  }
  assert.equal(entries[0]?.memo, "no 25");
  assert.equal(entries[0]?.type, "gift");
  assert.equal(entries[0]?.counterpartyAccountId, payer.accountId);
});

test("a page that ends exactly with the last entry says that there is no more", async () => {
  const account = await openFunded(10n);
  assert.deepEqual((await page(account.accountId, 1)).hasMore, false);
});

test("an account without entries has an empty page; an unknown one is not found", async () => {
  const { entries, hasMore } = await page((await openAccount()).accountId);
  assert.deepEqual([entries, hasMore], [[], false]);
  await assert.rejects(page(newId("acct", 3)), { code: 5, reason: "ACCOUNT_NOT_FOUND" });
});

test("a page size out of range and a foreign or forged token are refused", async () => {
  const [one, other] = [await openFunded(10n), await openFunded(10n)];
  await transfer(one.accountId, other.accountId, 1n);
  for (const size of [-1, 501, 1_000_000_000])
    await assert.rejects(page(one.accountId, size), { code: 3, fields: ["page_size"] });
  const { nextPageToken } = await page(one.accountId, 1);
  assert.equal((await page(one.accountId, 1, nextPageToken)).entries.length, 1);
  await assert.rejects(page(other.accountId, 1, nextPageToken), {
    code: 3,
    reason: "PAGE_TOKEN_INVALID",
    fields: ["page_token"],
  });
  await assert.rejects(page(one.accountId, 1, `${nextPageToken}x`), { code: 3, reason: "PAGE_TOKEN_INVALID" });
});

test("pages walk back over months: each month's partition is read only when it is reached", async () => {
  const account = await openFunded(10n);
  const { rows } = await postgres(1).query<{ "QUERY PLAN": string }>(
    `explain (analyze, costs off, timing off, summary off, buffers off)
     select * from ledger.entries where account_id = (select account_id from ledger.accounts where owner_id = $1)
        and post_time <= 'infinity' order by post_time desc, sequence desc limit 1`,
    [account.ownerId],
  );
  const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
  assert.match(plan, /Index Scan|Index Only Scan/);
  assert.doesNotMatch(plan, /Seq Scan on entries/);
});
