import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, getPriority } from "node:os";
import { after, test } from "node:test";
import { passwordHashing } from "#services/identity/password-hashing.ts";

const passwords = await passwordHashing();
after(() => passwords.stop());

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

test("the threads that hash have a lower priority than the process, and nothing else has", async () => {
  const hashing = passwords.verify(undefined, "x");
  // /proc: the nice value is the 19th field, counted behind the name in parentheses.
  const niceness = readdirSync("/proc/self/task").map((thread) =>
    Number(
      readFileSync(`/proc/self/task/${thread}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ")[16],
    ),
  );
  assert.equal(niceness.filter((nice) => nice === 10).length, Math.min(availableParallelism(), 4));
  assert.equal(niceness[0], getPriority());
  await hashing;
});
