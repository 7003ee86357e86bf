import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "#tests/command-line.ts";
import { answer, challengeOf, codeOf, signUpWithFactor } from "#tests/factors.ts";
import { stack } from "#tests/stack.ts";
import { newEmail, signUp } from "#tests/users.ts";

const operator = (...args: string[]) => run(["operator", ...args, "--identity", stack.identity]);

async function roleOf(user: { readonly email: string }, totpCode: string): Promise<string> {
  const { accessToken } = await answer(await challengeOf(user), { totpCode });
  const claims = Buffer.from(accessToken.split(".")[1] ?? "", "base64url").toString();
  return (JSON.parse(claims) as { role: string }).role;
}

test("who sits at the machine makes an operator of a user, and takes it back", async () => {
  const { user, secret } = await signUpWithFactor();
  const granted = await operator("grant", user.email);
  assert.deepEqual([granted.exitStatus, granted.stderr], [0, ""]);
  assert.ok(granted.stdout.startsWith(`${user.userId} is an operator`), granted.stdout);
  assert.equal(await roleOf(user, codeOf(secret)), "OPERATOR");
  assert.equal((await operator("withdraw", user.email)).exitStatus, 0);
  assert.equal(await roleOf(user, codeOf(secret, 1)), "USER");
});

test("a user without a second factor is refused in one line that says what to do", async () => {
  const { exitStatus, stderr } = await operator("grant", (await signUp()).email);
  assert.equal(exitStatus, 2);
  assert.match(stderr, /the user turns one on before they become one\. \(OPERATOR_NEEDS_SECOND_FACTOR\)\n$/);
});

test("somebody who is not there is refused in one line", async () => {
  const { exitStatus, stdout, stderr } = await operator("grant", newEmail());
  assert.deepEqual([exitStatus, stdout], [2, ""]);
  assert.match(stderr, /^It was refused: There is no such user any more\. \(USER_NOT_FOUND\)\n$/);
});
