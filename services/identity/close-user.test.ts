import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { User_Status } from "#proto/ledgermesh/identity/v1/identity.ts";
import { Account_Status } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  eventually,
  identity,
  newKey,
  openAccount,
  postgres,
  readAccount,
  shardNumbers,
  transfer,
} from "#tests/stack.ts";
import { bearer, messagesTo, newEmail, PASSWORD, signIn, signUp } from "#tests/users.ts";

async function someone(name = "Ada") {
  const user = await signUp({ name, phone: "+420601999888" });
  const headers = bearer(await signIn(user));
  const close = (password = PASSWORD, idempotencyKey = newKey()) =>
    call(identity, identity.closeUser, { password, idempotencyKey }, headers);
  return { user, headers, close };
}

test("who leaves is erased: their accounts are closed, their address is free, and nothing of them is left in identity", async () => {
  const name = `Erasable ${newKey()}`;
  const { user, headers, close } = await someone(name);
  const account = await openAccount({ ownerId: user.userId });
  const pending = newEmail();
  const request = { newEmail: pending, password: PASSWORD, idempotencyKey: newKey() };
  await call(identity, identity.changeEmail, request, headers);
  const { response } = await close();
  assert.deepEqual(
    [response.status, response.email, response.name, response.phone, response.country, response.pendingEmail],
    [User_Status.CLOSED, "", "", "", "", ""],
  );
  assert.equal((await readAccount(account.accountId)).status, Account_Status.CLOSED);
  await assert.rejects(signIn(user), { reason: "CREDENTIALS_INVALID" });
  await eventually(
    async () => (await messagesTo(user.email)).some((text) => /You have left/.test(text)),
    "a farewell comes",
  );

  const uuid = parseId(user.userId, "user")?.uuid;
  const personal = [name, "+420601999888", user.email, pending];
  await eventually(async () => {
    for (const shard of shardNumbers) {
      const { rows: tables } = await postgres(shard).query<{ name: string }>(
        `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'identity' and c.relkind = 'r'`,
      );
      for (const table of tables) {
        const { rows } = await postgres(shard).query<{ text: string }>(
          `select t::text as text from ${table.name} t where exists
             (select from unnest($1::text[]) p (word) where t::text like '%' || p.word || '%')`,
          [personal],
        );
        assert.deepEqual(rows, [], table.name);
      }
      for (const table of ["login_directory", "directory_releases", "email_changes", "login_events"]) {
        const { rows } = await postgres(shard).query(`select from identity.${table} where user_id = $1`, [uuid]);
        assert.equal(rows.length, 0, table);
      }
    }
    return true;
  }, "nothing personal is left");
  assert.notEqual((await signUp({ email: user.email })).userId, user.userId);
  await signUp({ email: pending });
});

test("who has money or a hold stays, and keeps everything", async () => {
  const { user, close } = await someone();
  const [empty, full] = [
    await openAccount({ ownerId: user.userId }),
    await openAccount({ ownerId: user.userId, reference: "b" }),
  ];
  await transfer("system:cash", full.accountId, 100n);
  await assert.rejects(close(), { code: 9, reason: "USER_HAS_BALANCE", metadata: { account_id: full.accountId } });
  assert.equal((await readAccount(empty.accountId)).status, Account_Status.ACTIVE);
  await signIn(user);
  await transfer(full.accountId, "system:cash", 100n);
  assert.equal((await close()).response.status, User_Status.CLOSED);
});

test("every session ends, the one that asked too", async () => {
  const { user, headers, close } = await someone();
  const other = await signIn(user);
  await close();
  await assert.rejects(
    call(identity, identity.refreshSession, { refreshToken: other.refreshToken, idempotencyKey: "" }),
    { reason: "REFRESH_TOKEN_INVALID" },
  );
  await assert.rejects(call(identity, identity.getUser, {}, headers), (error: { reason: string }) =>
    ["USER_NOT_FOUND", "SESSION_REVOKED"].includes(error.reason),
  );
});

test("a wrong password closes nothing, and the same call again answers again", async () => {
  const { user, close } = await someone();
  await assert.rejects(close("not the password"), { code: 9, reason: "PASSWORD_WRONG" });
  await signIn(user);
  const key = newKey();
  const answers = await Promise.all(Array.from({ length: 4 }, () => close(PASSWORD, key)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.ok(answers.every(({ response }) => response.status === User_Status.CLOSED));
});
