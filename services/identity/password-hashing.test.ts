import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, getPriority } from "node:os";
import { after, test } from "node:test";
import { passwordHashing } from "#services/identity/password-hashing.ts";

const passwords = await passwordHashing();
after(() => passwords.stop());

test("a password matches its own hash only, which is Argon2id with OWASP's parameters and a salt of its own", async () => {
  const [first, second] = await Promise.all([
    passwords.hash("correct horse", "a"),
    passwords.hash("correct horse", "a"),
  ]);
  assert.match(first, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  assert.notEqual(first, second);
  assert.equal(await passwords.verify(first, "correct horse", "a"), true);
  assert.equal(await passwords.verify(first, "correct house", "a"), false);
  assert.equal(await passwords.verify(undefined, "nobody has this password", "a"), false);
});

test("more than can wait are refused at once, and those that were taken are answered", async () => {
  const results = await Promise.allSettled(Array.from({ length: 120 }, () => passwords.verify(undefined, "x", "a")));
  const refused = results.filter((result) => result.status === "rejected");
  assert.ok(refused.length >= 120 - 64 - 4, `${refused.length} refused`);
  for (const { reason } of refused) assert.equal((reason as { reason: string }).reason, "SIGN_IN_OVERLOADED");
  assert.equal(await passwords.verify(undefined, "x", "a"), false);
});

test("the threads that hash have a lower priority than the process, and nothing else has", async () => {
  const hashing = passwords.verify(undefined, "x", "a");
  // /proc: the nice value is the 19th field, counted behind the name in parentheses.
  const niceness = readdirSync("/proc/self/task").map((thread) =>
    Number(
      readFileSync(`/proc/self/task/${thread}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ")[16],
    ),
  );
  assert.equal(niceness.filter((nice) => nice === 5).length, Math.min(availableParallelism(), 4));
  assert.equal(niceness[0], getPriority());
  await hashing;
});

test("lanes take turns: who sends many waits for themselves", async () => {
  const order: string[] = [];
  const verify = (lane: string) => passwords.verify(undefined, "x", lane).then(() => order.push(lane));
  const flood = Array.from({ length: 20 }, () => verify("flood"));
  await Promise.all([verify("ada"), verify("eve")]);
  assert.ok(order.length <= 10, `${order.length} came first`);
  await Promise.allSettled(flood);
});
