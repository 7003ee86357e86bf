import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { eventually, identity, newKey } from "#tests/stack.ts";
import { bearer, emailToken, messagesTo, newEmail, PASSWORD, signIn, signUp } from "#tests/users.ts";

const NEW_PASSWORD = "another sound password";

async function someone() {
  const user = await signUp();
  const tokens = await signIn(user);
  const change = (currentPassword: string, newPassword: string, idempotencyKey = newKey()) =>
    call(identity, identity.changePassword, { currentPassword, newPassword, idempotencyKey }, bearer(tokens));
  return { user, tokens, change };
}

test("from now on the new password is the password, every other session is over, and an e-mail says so", async () => {
  const { user, tokens, change } = await someone();
  const other = await signIn(user);
  const { response } = await change(PASSWORD, NEW_PASSWORD);
  assert.equal(response.version, 2n);
  assert.ok((response.passwordChangeTime?.getTime() ?? 0) > (user.passwordChangeTime?.getTime() ?? 0));
  await assert.rejects(signIn(user), { reason: "CREDENTIALS_INVALID" });
  await signIn(user, NEW_PASSWORD);
  const refresh = (refreshToken: string) =>
    call(identity, identity.refreshSession, { refreshToken, idempotencyKey: "" });
  await assert.rejects(refresh(other.refreshToken), { reason: "REFRESH_TOKEN_INVALID" });
  await refresh(tokens.refreshToken);
  await eventually(async () => (await messagesTo(user.email)).length === 1, "one e-mail comes");
  const [message = ""] = await messagesTo(user.email);
  assert.match(message, /Subject: Your password was changed/);
  assert.ok(!message.includes(NEW_PASSWORD));
});

test("a change of e-mail that somebody asked for with the former password comes to nothing, and its address is free", async () => {
  const { user, tokens, change } = await someone();
  const thief = bearer(await signIn(user));
  const email = newEmail();
  await call(identity, identity.changeEmail, { newEmail: email, password: PASSWORD, idempotencyKey: newKey() }, thief);
  const token = await emailToken(email);
  assert.equal((await change(PASSWORD, NEW_PASSWORD)).response.pendingEmail, "");
  await assert.rejects(call(identity, identity.confirmEmail, { token }), { reason: "EMAIL_TOKEN_INVALID" });
  const { response: now } = await call(identity, identity.getUser, {}, bearer(tokens));
  assert.deepEqual([now.email, now.pendingEmail], [user.email, ""]);
  const isFree = () =>
    signUp({ email }).then(
      () => true,
      () => false,
    );
  await eventually(isFree, "the worker has released the address", 20_000);
});

test("without the current password nothing changes, and guessing it is limited", async () => {
  const { user, change } = await someone();
  await assert.rejects(change("not the password", NEW_PASSWORD), { code: 9, reason: "PASSWORD_WRONG" });
  await signIn(user);
  const guesses = await Promise.allSettled(Array.from({ length: 14 }, () => change("not the password", NEW_PASSWORD)));
  const reasons = guesses.map((guess) => (guess.status === "rejected" ? (guess.reason.reason as string) : "changed"));
  assert.ok(!reasons.includes("changed"));
  assert.ok(reasons.filter((reason) => reason === "TOO_MANY_ATTEMPTS").length >= 3, reasons.join(" "));
});

test("the same call again answers again, although the password is another one now", async () => {
  const { change } = await someone();
  const key = newKey();
  const answers = await Promise.all(Array.from({ length: 5 }, () => change(PASSWORD, NEW_PASSWORD, key)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.ok(answers.every(({ response }) => response.version === 2n));
  assert.ok((await change(PASSWORD, NEW_PASSWORD, key)).replayed);
  await assert.rejects(change(PASSWORD, `${NEW_PASSWORD}!`, key), { reason: "IDEMPOTENCY_KEY_REUSED" });
});

test("of two changes at once, each with its own key, one counts", async () => {
  const { user, change } = await someone();
  const results = await Promise.allSettled([
    change(PASSWORD, "first new password"),
    change(PASSWORD, "second new password"),
  ]);
  const done = results.findIndex(({ status }) => status === "fulfilled");
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
  await signIn(user, done === 0 ? "first new password" : "second new password");
});

test("the rules hold for the new password", async () => {
  const { user, change } = await someone();
  await assert.rejects(change(PASSWORD, "short"), { code: 3, fields: ["new_password"] });
  await assert.rejects(change(PASSWORD, "password123"), { code: 3, reason: "PASSWORD_TOO_COMMON" });
  await assert.rejects(change(PASSWORD, user.email), { code: 3, reason: "PASSWORD_TOO_COMMON" });
});
