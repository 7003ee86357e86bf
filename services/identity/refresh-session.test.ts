import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import type { SessionTokens } from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newKey, postgres, shardNumbers } from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

const refresh = (refreshToken: string, idempotencyKey = "") =>
  call(identity, identity.refreshSession, { refreshToken, idempotencyKey });
const INVALID = { code: 16, reason: "REFRESH_TOKEN_INVALID" };

async function stateOf(sessionId: string): Promise<string> {
  const uuid = parseId(sessionId, "sess")?.uuid;
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query<{ state: string; revoke_reason: string | null }>(
      "select state, revoke_reason from identity.sessions where session_id = $1",
      [uuid],
    );
    if (rows[0] !== undefined) return `${rows[0].state} ${rows[0].revoke_reason ?? ""}`.trim();
  }
  return assert.fail(`there is no ${sessionId}`);
}

async function newSession(): Promise<SessionTokens> {
  return signIn(await signUp());
}

test("a refresh token takes new tokens of the same session, again and again", async () => {
  let tokens = await newSession();
  const { sessionId, userId } = tokens;
  for (let index = 0; index < 5; index += 1) {
    const { response } = await refresh(tokens.refreshToken);
    assert.deepEqual([response.sessionId, response.userId], [sessionId, userId]);
    assert.notEqual(response.refreshToken, tokens.refreshToken);
    assert.equal(response.sessionExpireTime?.getTime(), tokens.sessionExpireTime?.getTime());
    tokens = response;
  }
});

test("a token that comes a second time ends the session, for the thief and for the owner", async () => {
  const first = await newSession();
  const { response: second } = await refresh(first.refreshToken);
  const { response: third } = await refresh(second.refreshToken);
  await assert.rejects(refresh(first.refreshToken), INVALID);
  assert.equal(await stateOf(first.sessionId), "REVOKED REFRESH_TOKEN_REUSED");
  await assert.rejects(refresh(third.refreshToken), INVALID);
});

test("of two refreshes at once with one token never both get tokens that work", async () => {
  for (let round = 0; round < 5; round += 1) {
    const { refreshToken, sessionId } = await newSession();
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => refresh(refreshToken)));
    const won = results.flatMap((result) => (result.status === "fulfilled" ? [result.value.response] : []));
    assert.equal(won.length, 1);
    assert.equal(await stateOf(sessionId), "REVOKED REFRESH_TOKEN_REUSED");
    await assert.rejects(refresh(won[0]?.refreshToken ?? ""), INVALID);
  }
});

test("a lost answer is asked for again with the same idempotency key, at once and in parallel, while it was not used", async () => {
  const { refreshToken, sessionId } = await newSession();
  const key = newKey();
  const answers = await Promise.all(Array.from({ length: 6 }, () => refresh(refreshToken, key)));
  assert.equal(new Set(answers.map(({ response }) => response.refreshToken)).size, 1);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  const { response: next } = await refresh(answers[0]?.response.refreshToken ?? "");
  // Now the answer was received: the same call again can only be a thief's.
  await assert.rejects(refresh(refreshToken, key), INVALID);
  assert.equal(await stateOf(sessionId), "REVOKED REFRESH_TOKEN_REUSED");
  await assert.rejects(refresh(next.refreshToken), INVALID);
});

test("a lost answer is asked for within a minute: after that whoever knows token and key is taken for a thief", async () => {
  const { refreshToken, sessionId } = await newSession();
  const key = newKey();
  await refresh(refreshToken, key);
  const age = async (seconds: number) => {
    for (const shard of shardNumbers) {
      await postgres(shard).query(
        "update identity.sessions set refreshed_at = now() - make_interval(secs => $2) where session_id = $1",
        [parseId(sessionId, "sess")?.uuid, seconds],
      );
    }
  };
  await age(50);
  const { response: next, replayed } = await refresh(refreshToken, key);
  assert.ok(replayed);
  await age(60);
  await assert.rejects(refresh(refreshToken, key), INVALID);
  assert.equal(await stateOf(sessionId), "REVOKED REFRESH_TOKEN_REUSED");
  await assert.rejects(refresh(next.refreshToken), INVALID);
});

test("a thief who has the token, but not the key, ends the session and gets nothing", async () => {
  const { refreshToken, sessionId } = await newSession();
  await refresh(refreshToken, newKey());
  await assert.rejects(refresh(refreshToken, newKey()), INVALID);
  assert.equal(await stateOf(sessionId), "REVOKED REFRESH_TOKEN_REUSED");
});

test("a made-up token ends nobody's session", async () => {
  const { refreshToken, sessionId } = await newSession();
  const bytes = Buffer.from(refreshToken, "base64url");
  for (const index of [0, 17, 25, 60]) {
    const altered = Buffer.from(bytes);
    altered[index] = (altered[index] as number) ^ 1;
    await assert.rejects(refresh(altered.toString("base64url")), INVALID);
  }
  for (const text of ["", "x", "'; drop table identity.sessions; --"]) await assert.rejects(refresh(text), INVALID);
  assert.equal(await stateOf(sessionId), "ACTIVE");
  await refresh(refreshToken);
});

test("a session that is over is not refreshed", async () => {
  const { refreshToken, sessionId } = await newSession();
  for (const shard of shardNumbers) {
    await postgres(shard).query("update identity.sessions set expires_at = now() where session_id = $1", [
      parseId(sessionId, "sess")?.uuid,
    ]);
  }
  await assert.rejects(refresh(refreshToken), INVALID);
});

test("the token's secret is not in the database", async () => {
  const { refreshToken, sessionId } = await newSession();
  const secret = Buffer.from(refreshToken, "base64url").subarray(20, 52);
  let found = 0;
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query<{ refresh_hash: Buffer }>(
      "select refresh_hash from identity.sessions where session_id = $1",
      [parseId(sessionId, "sess")?.uuid],
    );
    for (const { refresh_hash } of rows) {
      found += 1;
      assert.notDeepEqual(refresh_hash, secret);
      assert.equal(refresh_hash.length, 32);
    }
  }
  assert.equal(found, 1);
});
