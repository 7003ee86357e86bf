import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { type Account, Account_Status, ListAccountsRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newKey, newOwner, openAccount, postgres, setStatus, transfer } from "#tests/stack.ts";

const list = (request: Partial<ListAccountsRequest>) =>
  call(ledger, ledger.listAccounts, ListAccountsRequest.fromPartial(request)).then(({ response }) => response);
const ids = (accounts: readonly Account[]) => accounts.map(({ accountId }) => accountId);

test("pages hold every account of the owner once, newest first, also while new ones are opened", async () => {
  for (const shard of [1, 2]) {
    const ownerId = newOwner(shard);
    const opened: Account[] = [];
    for (let count = 0; count < 7; count += 1) opened.push(await openAccount({ ownerId }));
    await openAccount({}, shard);
    const seen: Account[] = [];
    let pageToken = "";
    do {
      const page = await list({ ownerId, pageSize: 3, pageToken });
      seen.push(...page.accounts);
      assert.equal(page.hasMore, page.nextPageToken !== "");
      pageToken = page.nextPageToken;
      await openAccount({ ownerId });
    } while (pageToken !== "");
    assert.deepEqual(ids(seen), ids(opened.toReversed()));
    assert.equal((await list({ ownerId })).accounts.length, 10);
  }
});

test("a list says what is so at this moment: balances, statuses, closed accounts too", async () => {
  const account = await openAccount({ metadata: { a: "b" }, reference: "main" });
  await transfer("system:cash", account.accountId, 3n);
  await setStatus("freeze", account.accountId);
  const closed = await openAccount({ ownerId: account.ownerId });
  await setStatus("close", closed.accountId);
  const { accounts, hasMore } = await list({ ownerId: account.ownerId });
  assert.deepEqual(
    accounts.map(({ accountId, postedMinorUnits, status }) => [accountId, postedMinorUnits, status]),
    [
      [closed.accountId, 0n, Account_Status.CLOSED],
      [account.accountId, 3n, Account_Status.FROZEN],
    ],
  );
  assert.deepEqual([accounts[1]?.metadata, hasMore], [{ a: "b" }, false]);
});

test("with a reference it is the one account of the owner, or of the caller itself, or none", async () => {
  const reference = `main ${newKey()}`;
  const [account, other] = [await openAccount({ reference }), await openAccount({ reference }, 2)];
  await openAccount({ ownerId: account.ownerId });
  assert.deepEqual(ids((await list({ ownerId: account.ownerId, reference })).accounts), [account.accountId]);
  assert.deepEqual(ids((await list({ ownerId: other.ownerId, reference })).accounts), [other.accountId]);
  assert.deepEqual((await list({ reference })).accounts, []);
  const own = await openAccount({ ownerId: "", reference });
  assert.deepEqual((await list({ reference })).accounts, [own]);
  assert.deepEqual(await list({ ownerId: account.ownerId, reference: "another" }), {
    accounts: [],
    nextPageToken: "",
    hasMore: false,
  });
  assert.deepEqual((await list({ ownerId: newOwner() })).accounts, []);
});

test("neither an owner nor a reference, a malformed one, a foreign token and a page size out of range are refused", async () => {
  await assert.rejects(list({}), { code: 3, reason: "MALFORMED_REQUEST", fields: ["owner_id"] });
  await assert.rejects(list({ ownerId: "user_1" }), { code: 3, fields: ["owner_id"] });
  await assert.rejects(list({ reference: "system:cash" }), { code: 3, fields: ["reference"] });
  await assert.rejects(list({ ownerId: newOwner(), pageSize: 501 }), { code: 3, fields: ["page_size"] });
  const ownerId = newOwner();
  for (let count = 0; count < 2; count += 1) await openAccount({ ownerId });
  const { nextPageToken: pageToken } = await list({ ownerId, pageSize: 1 });
  assert.equal((await list({ ownerId, pageSize: 1, pageToken })).accounts.length, 1);
  for (const foreign of [{ ownerId: newOwner() }, { ownerId, reference: "main" }, { reference: "main" }])
    await assert.rejects(list({ ...foreign, pageToken }), { code: 3, reason: "PAGE_TOKEN_INVALID" });
});

test("a list reads its index from the cursor on, however many accounts there are", async () => {
  // As the ledger's own connections are set: a table that is small today must not decide.
  const db = await postgres(1).connect();
  await db.query("begin; set local enable_seqscan = off");
  const { rows } = await db.query<{ "QUERY PLAN": string }>(
    `explain (costs off) select * from ledger.accounts where owner_id = 'user_1' and owner_id <> ''
        and account_id < 'ffffffff-ffff-ffff-ffff-ffffffffffff' order by account_id desc limit 51`,
  );
  await db.query("rollback");
  db.release();
  const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
  assert.match(plan, /Index Scan Backward using accounts_by_owner/);
  assert.doesNotMatch(plan, /Sort|Filter/);
});
