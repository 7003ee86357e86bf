import assert from "node:assert/strict";
import { after, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import { challengeIfEnrolled } from "#services/identity/second-factor.ts";
import { answer, challengeOf, codeOf, type Enrolled, signUpWithFactor, wrongCode } from "#tests/factors.ts";
import { closeIdentityContext, identityContext } from "#tests/identity-context.ts";
import { eventually, identity, newKey, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, PASSWORD } from "#tests/users.ts";

after(closeIdentityContext);

const uuidOf = ({ user }: Enrolled) => parseId(user.userId)?.uuid as string;

async function rowsOf(statement: string, value: string): Promise<Record<string, unknown>[]> {
  const perShard = await Promise.all(shardNumbers.map((shard) => postgres(shard).query(statement, [value])));
  return perShard.flatMap(({ rows }) => rows as Record<string, unknown>[]);
}

const eventsOf = async (userId: string) =>
  (
    await rowsOf(
      "select type, payload from identity.events where payload like '%' || $1 || '%' order by number",
      userId,
    )
  ).map(({ type }) => String(type));

test("password and code open a session, and its token says so", async () => {
  const enrolled = await signUpWithFactor();
  const tokens = await answer(await challengeOf(enrolled.user), { totpCode: codeOf(enrolled.secret) });
  const claims = JSON.parse(Buffer.from(tokens.accessToken.split(".")[1] ?? "", "base64url").toString());
  assert.deepEqual(claims.amr, ["pwd", "otp"]);
  assert.equal(claims.sub, enrolled.user.userId);
});

test("a code is accepted once, however many come with it at the same moment", async () => {
  const enrolled = await signUpWithFactor();
  const challenges = [];
  for (let index = 0; index < 8; index += 1) challenges.push(await challengeOf(enrolled.user));
  const totpCode = codeOf(enrolled.secret);
  const results = await Promise.allSettled(challenges.map((challenge) => answer(challenge, { totpCode })));
  const reasons = results.map((result) => (result.status === "rejected" ? (result.reason.reason as string) : "opened"));
  assert.deepEqual(reasons.sort(), [...Array(7).fill("SECOND_FACTOR_USED"), "opened"]);
  // Nor later, nor one of before: the newest step that was accepted is kept.
  for (const steps of [0, -1]) {
    await assert.rejects(answer(await challengeOf(enrolled.user), { totpCode: codeOf(enrolled.secret, steps) }), {
      code: 16,
      reason: "SECOND_FACTOR_USED",
    });
  }
  await answer(await challengeOf(enrolled.user), { totpCode: codeOf(enrolled.secret, 1) });
});

test("five wrong codes lock it for a quarter of an hour, over all challenges, and tell so; then it goes on", async () => {
  const enrolled = await signUpWithFactor();
  const wrong = wrongCode(enrolled.secret);
  const challenges = await Promise.all([challengeOf(enrolled.user), challengeOf(enrolled.user)]);
  for (let index = 0; index < 4; index += 1) {
    await assert.rejects(answer(challenges[index % 2] as string, { totpCode: wrong }), {
      reason: "SECOND_FACTOR_INVALID",
    });
  }
  await assert.rejects(answer(challenges[0], { recoveryCode: "abcd-abcd-abcd-abcd" }), {
    code: 8,
    reason: "SECOND_FACTOR_LOCKED",
  });
  await assert.rejects(answer(challenges[1], { totpCode: codeOf(enrolled.secret) }), {
    reason: "SECOND_FACTOR_LOCKED",
  });
  await assert.rejects(answer(challenges[1], { recoveryCode: enrolled.recoveryCodes[0] as string }), {
    reason: "SECOND_FACTOR_LOCKED",
  });
  assert.equal((await eventsOf(enrolled.user.userId)).filter((type) => type === "totp_locked").length, 1);
  await rowsOf("update identity.totp set locked_until = now() - interval '1 s' where user_id = $1", uuidOf(enrolled));
  await assert.rejects(answer(await challengeOf(enrolled.user), { totpCode: wrong }), {
    metadata: { attempts_left: "4" },
  });
  await answer(await challengeOf(enrolled.user), { totpCode: codeOf(enrolled.secret) });
  await eventually(
    async () =>
      (
        await rowsOf(
          "select from identity.login_events where user_id = $1 and failure = 'WRONG_SECOND_FACTOR'",
          uuidOf(enrolled),
        )
      ).length >= 6,
    "the failures are noted",
  );
});

test("a recovery code opens a session once, and what is left is told", async () => {
  const enrolled = await signUpWithFactor();
  const [code = "", other = ""] = enrolled.recoveryCodes;
  const challenges = [
    await challengeOf(enrolled.user),
    await challengeOf(enrolled.user),
    await challengeOf(enrolled.user),
  ];
  const results = await Promise.allSettled(challenges.map((challenge) => answer(challenge, { recoveryCode: code })));
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
  await assert.rejects(answer(await challengeOf(enrolled.user), { recoveryCode: code }), {
    reason: "SECOND_FACTOR_USED",
  });
  await answer(await challengeOf(enrolled.user), { recoveryCode: other.toUpperCase().replaceAll("-", " ") });
  const told = await rowsOf(
    "select payload from identity.events where type = 'recovery_code_used' and aggregate_id = $1 order by number",
    enrolled.user.userId,
  );
  assert.deepEqual(
    told.map(({ payload }) => (JSON.parse(String(payload)) as { remaining_codes: number }).remaining_codes),
    [9, 8],
  );
});

test("a challenge is good once, for five minutes, with its secret, and for the password that it was given for", async () => {
  const enrolled = await signUpWithFactor();
  const invalid = { code: 16, reason: "CHALLENGE_INVALID" };
  const challenge = await challengeOf(enrolled.user);
  const [id = ""] = challenge.split(".");
  const totpCode = codeOf(enrolled.secret);
  for (const forged of [id, `${id}.`, `${id}.${"A".repeat(32)}`, `${challenge}x`, `x${challenge}`]) {
    await assert.rejects(answer(forged, { totpCode }), invalid, forged);
  }
  await answer(challenge, { totpCode });
  await assert.rejects(answer(challenge, { totpCode: codeOf(enrolled.secret, 1) }), invalid);

  const old = await challengeOf(enrolled.user);
  await rowsOf("update identity.login_challenges set expires_at = now() where user_id = $1", uuidOf(enrolled));
  await assert.rejects(answer(old, { totpCode: codeOf(enrolled.secret, 1) }), invalid);

  const before = await challengeOf(enrolled.user);
  await call(
    identity,
    identity.changePassword,
    { currentPassword: PASSWORD, newPassword: "another sound password", idempotencyKey: newKey() },
    bearer(enrolled.tokens),
  );
  await assert.rejects(answer(before, { totpCode: codeOf(enrolled.secret, 1) }), invalid);
});

test("a password that is changed while its hash is computed gets no challenge", async () => {
  const enrolled = await signUpWithFactor();
  const ctx = identityContext() as Context;
  const hashes = () => rowsOf("select user_id, password_hash from identity.users where user_id = $1", uuidOf(enrolled));
  const [shown] = (await hashes()) as { user_id: string; password_hash: string }[];
  assert.ok(shown);
  assert.match((await challengeIfEnrolled(ctx, shown)) ?? "", /^chal_/);
  await call(
    identity,
    identity.changePassword,
    { currentPassword: PASSWORD, newPassword: "another sound password", idempotencyKey: newKey() },
    bearer(enrolled.tokens),
  );
  assert.equal(await challengeIfEnrolled(ctx, shown), undefined);
  assert.deepEqual(await rowsOf("select from identity.login_challenges where user_id = $1", uuidOf(enrolled)), []);
});

test("turning it on, signing in with it and turning it off are events, without anything personal", async () => {
  const enrolled = await signUpWithFactor();
  const tokens = await answer(await challengeOf(enrolled.user), { totpCode: codeOf(enrolled.secret) });
  await call(
    identity,
    identity.disableTotp,
    { totpCode: codeOf(enrolled.secret, 1), recoveryCode: "" },
    bearer(tokens),
  );
  const types = await eventsOf(enrolled.user.userId);
  assert.deepEqual(
    types.filter((type) => type.startsWith("totp") || type === "session_created"),
    ["session_created", "totp_enabled", "session_created", "totp_disabled"],
  );
  const rows = await rowsOf(
    "select payload from identity.events where payload like '%' || $1 || '%'",
    enrolled.user.userId,
  );
  assert.ok(!JSON.stringify(rows).includes(enrolled.user.email));
});
