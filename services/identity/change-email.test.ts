import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { eventually, identity, newKey } from "#tests/stack.ts";
import { bearer, emailToken, messagesTo, newEmail, PASSWORD, signIn, signUp, signUpRequest } from "#tests/users.ts";

async function someone() {
  const user = await signUp();
  const headers = bearer(await signIn(user));
  const change = (newAddress: string, password = PASSWORD, idempotencyKey = newKey()) =>
    call(identity, identity.changeEmail, { newEmail: newAddress, password, idempotencyKey }, headers);
  const confirm = (token: string) => call(identity, identity.confirmEmail, { token });
  return { user, headers, change, confirm };
}

test("an address waits for its confirmation: the user signs in with the former one, and it is nobody else's", async () => {
  const { user, change } = await someone();
  const email = newEmail();
  const { response } = await change(email.toUpperCase());
  assert.deepEqual([response.email, response.pendingEmail], [user.email, email]);
  await signIn(user);
  await assert.rejects(signIn({ email }), { reason: "CREDENTIALS_INVALID" });
  await assert.rejects(signUp({ email }), { reason: "EMAIL_ALREADY_USED" });
  assert.match(await emailToken(email), /^[\w-]{64}$/);
  // The former address hears of it, and gets no token.
  await eventually(async () => (await messagesTo(user.email)).length === 1, "the former address hears of it");
  const [notice = ""] = await messagesTo(user.email);
  assert.match(notice, /Another e-mail address was asked for/);
  assert.doesNotMatch(notice, /^[\w-]{64}\r?$/m);
});

test("confirmed, the new address signs in, the former one is free for others, and a repeated call answers again", async () => {
  const { user, headers, change, confirm } = await someone();
  const email = newEmail();
  await change(email);
  const token = await emailToken(email);
  assert.deepEqual((await confirm(token)).response, { email });
  const { response: now } = await call(identity, identity.getUser, {}, headers);
  assert.deepEqual([now.email, now.pendingEmail, now.version], [email, "", 2n]);
  assert.equal((await signIn({ email })).userId, user.userId);
  await assert.rejects(signIn(user), { reason: "CREDENTIALS_INVALID" });
  assert.notEqual((await signUp({ email: user.email })).userId, user.userId);
  assert.deepEqual((await confirm(token)).response, { email });
});

test("there and back again, and on: the same address can be taken anew", async () => {
  const { user, change, confirm } = await someone();
  const other = newEmail();
  for (const [email, number] of [
    [other, 1],
    [user.email, 1],
    [other, 2],
  ] as const) {
    await change(email);
    await confirm(await emailToken(email, number));
    assert.equal((await signIn({ email })).userId, user.userId);
  }
});

test("an address that is taken, one's own, or a wrong password are refused", async () => {
  const [{ user, change }, other] = [await someone(), await signUp()];
  await assert.rejects(change(other.email), { code: 6, reason: "EMAIL_ALREADY_USED" });
  await assert.rejects(change(user.email), { code: 6, reason: "EMAIL_ALREADY_USED" });
  await assert.rejects(change(newEmail(), "not the password"), { code: 9, reason: "PASSWORD_WRONG" });
  await assert.rejects(change("nobody"), { code: 3, fields: ["new_email"] });
});

test("a second wish takes the place of the first: its address is free, its token is of no use", async () => {
  const { change, confirm } = await someone();
  const [first, second] = [newEmail(), newEmail()];
  await change(first);
  const token = await emailToken(first);
  await change(second);
  await assert.rejects(confirm(token), { code: 9, reason: "EMAIL_TOKEN_INVALID" });
  await confirm(await emailToken(second));
});

test("of two users who want one address, one gets it, and of a user and a sign-up too", async () => {
  const [ada, eve] = [await someone(), await someone()];
  const email = newEmail();
  const results = await Promise.allSettled([
    ada.change(email),
    eve.change(email),
    call(identity, identity.createUser, signUpRequest({ email })),
  ]);
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
  for (const result of results) {
    if (result.status === "rejected") assert.equal(result.reason.reason, "EMAIL_ALREADY_USED");
  }
});

test("the same call again asks once", async () => {
  const { user, change } = await someone();
  const [email, key] = [newEmail(), newKey()];
  const answers = await Promise.all(Array.from({ length: 5 }, () => change(email, PASSWORD, key)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  await emailToken(email);
  await eventually(async () => (await messagesTo(user.email)).length === 1, "the former address hears of it");
  assert.equal((await messagesTo(email)).length, 1);
});

test("a refused change is refused again under the same key, and made once the address is free", async () => {
  const [{ change }, other] = [await someone(), await signUp()];
  const key = newKey();
  for (let round = 0; round < 2; round += 1) {
    await assert.rejects(change(other.email, PASSWORD, key), { code: 6, reason: "EMAIL_ALREADY_USED" });
  }
  const leaving = { password: PASSWORD, idempotencyKey: newKey() };
  await call(identity, identity.closeUser, leaving, bearer(await signIn(other)));
  const { response, replayed } = await change(other.email, PASSWORD, key);
  assert.deepEqual([response.pendingEmail, replayed], [other.email, false]);
});
