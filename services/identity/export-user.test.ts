import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { linkCard } from "#tests/funding-sources.ts";
import { identity, openAccount, transfer } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("a user gets everything that is held about them, and nothing of anybody else", async () => {
  const [user, stranger] = [await signUp({ name: "Ada" }), await signUp({ name: "Eve" })];
  const strangers = await signIn(stranger);
  const tokens = await signIn(user);
  await assert.rejects(signIn(user, "a wrong password"), { reason: "CREDENTIALS_INVALID" });
  const account = await openAccount({ ownerId: user.userId });
  await transfer("system:cash", account.accountId, 9_007_199_254_740_993n);
  await openAccount({ ownerId: stranger.userId });
  const [card] = [await linkCard(tokens), await linkCard(strangers, { name: "Mastercard" })];
  const { response } = await call(identity, identity.exportUser, {}, bearer(tokens));
  assert.deepEqual(response.user, user);
  assert.deepEqual(response.fundingSources, [card]);
  assert.equal(response.devices.length, 1);
  assert.deepEqual(
    response.sessions.map(({ sessionId, current }) => [sessionId, current]),
    [[tokens.sessionId, true]],
  );
  assert.ok(response.loginEvents.some(({ success, sessionId }) => success && sessionId === tokens.sessionId));
  assert.deepEqual(response.accounts, [
    {
      accountId: account.accountId,
      currency: "EUR",
      kind: "WALLET",
      status: "ACTIVE",
      postedMinorUnits: 9_007_199_254_740_993n,
    },
  ]);
  const text = JSON.stringify(response, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  for (const other of ["Mastercard", stranger.userId, stranger.email, strangers.sessionId, "argon2"])
    assert.ok(!text.includes(other));
});
