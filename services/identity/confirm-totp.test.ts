import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { codeOf, enrol, signUpWithFactor, wrongCode } from "#tests/factors.ts";
import { identity, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

const confirm = (tokens: { accessToken: string }, totpCode: string) =>
  call(identity, identity.confirmTotp, { totpCode }, bearer(tokens));

test("a right code turns the second factor on and shows ten recovery codes, which are kept as hashes", async () => {
  const { user, recoveryCodes } = await signUpWithFactor();
  assert.equal(new Set(recoveryCodes).size, 10);
  for (const code of recoveryCodes) assert.match(code, /^[a-z]{4}(-[a-z]{4}){3}$/);
  const uuid = parseId(user.userId)?.uuid;
  const rows = (
    await Promise.all(
      shardNumbers.map((shard) =>
        postgres(shard).query("select r::text as text from identity.recovery_codes r where user_id = $1", [uuid]),
      ),
    )
  ).flatMap(({ rows: found }) => found);
  assert.equal(rows.length, 10);
  const text = JSON.stringify(rows);
  for (const code of recoveryCodes) assert.ok(!text.includes(code) && !text.includes(code.replaceAll("-", "")));
});

test("five wrong codes lock it, also for a right one; enrolling anew begins afresh", async () => {
  const tokens = await signIn(await signUp());
  const { secret } = await enrol(tokens);
  for (const left of [4, 3, 2, 1]) {
    await assert.rejects(confirm(tokens, wrongCode(secret)), {
      code: 16,
      reason: "SECOND_FACTOR_INVALID",
      metadata: { attempts_left: String(left) },
    });
  }
  for (const code of [wrongCode(secret), codeOf(secret)]) {
    await assert.rejects(confirm(tokens, code), (error: { code: number; reason: string; retryAfterMs: number }) => {
      assert.deepEqual([error.code, error.reason], [8, "SECOND_FACTOR_LOCKED"]);
      assert.ok(error.retryAfterMs > 14 * 60_000 && error.retryAfterMs <= 15 * 60_000, `${error.retryAfterMs}`);
      return true;
    });
  }
  const again = await enrol(tokens);
  assert.equal((await confirm(tokens, codeOf(again.secret))).response.recoveryCodes.length, 10);
});

test("without an enrolment, after its time, and once it is on there is nothing to confirm", async () => {
  const user = await signUp();
  const tokens = await signIn(user);
  await assert.rejects(confirm(tokens, "123456"), { code: 9, reason: "TOTP_NOT_ENROLLED" });
  const { secret } = await enrol(tokens);
  await Promise.all(
    shardNumbers.map((shard) =>
      postgres(shard).query("update identity.totp set created_at = now() - interval '16 minutes' where user_id = $1", [
        parseId(user.userId)?.uuid,
      ]),
    ),
  );
  await assert.rejects(confirm(tokens, codeOf(secret)), { code: 9, reason: "TOTP_NOT_ENROLLED" });
  const enrolled = await signUpWithFactor();
  await assert.rejects(confirm(enrolled.tokens, codeOf(enrolled.secret)), { code: 9, reason: "TOTP_ALREADY_ENABLED" });
});
