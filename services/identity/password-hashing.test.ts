import assert from "node:assert/strict";
import { test } from "node:test";
import { passwordHashing } from "#services/identity/password-hashing.ts";

const passwords = await passwordHashing();

test("a password matches its own hash only, which is Argon2id with OWASP's parameters and a salt of its own", async () => {
  const [first, second] = await Promise.all([passwords.hash("correct horse"), passwords.hash("correct horse")]);
  assert.match(first, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  assert.notEqual(first, second);
  assert.equal(await passwords.verify(first, "correct horse"), true);
  assert.equal(await passwords.verify(first, "correct house"), false);
  assert.equal(await passwords.verify(undefined, "nobody has this password"), false);
});

test("more than can wait are refused at once, and those that were taken are answered", async () => {
  const results = await Promise.allSettled(Array.from({ length: 120 }, () => passwords.verify(undefined, "x")));
  const refused = results.filter((result) => result.status === "rejected");
  assert.ok(refused.length >= 120 - 64 - 4, `${refused.length} refused`);
  for (const { reason } of refused) assert.equal((reason as { reason: string }).reason, "SIGN_IN_OVERLOADED");
  assert.equal(await passwords.verify(undefined, "x"), false);
});
