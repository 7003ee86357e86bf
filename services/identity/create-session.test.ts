import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { CreateSessionRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import { eventually, identity, postgres, shardNumbers } from "#tests/stack.ts";
import { newEmail, PASSWORD, signIn, signUp } from "#tests/users.ts";

const attempt = (email: string, password: string, more: Partial<CreateSessionRequest> = {}) =>
  call(identity, identity.createSession, CreateSessionRequest.fromPartial({ email, password, ...more }));

async function rowsOf(table: "sessions" | "login_events", userId: string): Promise<Record<string, unknown>[]> {
  const uuid = parseId(userId, "user")?.uuid;
  const perShard = await Promise.all(
    shardNumbers.map((shard) => postgres(shard).query(`select * from identity.${table} where user_id = $1`, [uuid])),
  );
  return perShard.flatMap(({ rows }) => rows as Record<string, unknown>[]);
}

test("who has the password gets a session: an access token of ten minutes, and a refresh token", async () => {
  const user = await signUp();
  const tokens = await signIn(user);
  assert.deepEqual([tokens.userId, tokens.expiresInSeconds], [user.userId, 600]);
  const claims = JSON.parse(Buffer.from(tokens.accessToken.split(".")[1] ?? "", "base64url").toString());
  const { iat, nbf, exp, ...rest } = claims as Record<string, number>;
  assert.deepEqual(rest, {
    iss: "https://ledgermesh",
    aud: "ledgermesh",
    sub: user.userId,
    sid: tokens.sessionId,
    role: "USER",
    amr: ["pwd"],
  });
  assert.deepEqual([nbf, exp], [iat, (iat as number) + 600]);
  assert.equal(parseId(tokens.sessionId, "sess")?.bucket, parseId(user.userId, "user")?.bucket);
});

test("letter case of the address, and how the password was typed, make no difference", async () => {
  const user = await signUp({ password: "p\u00e4ssw\u00f6rter" });
  const { response } = await attempt(user.email.toUpperCase(), "pa\u0308sswo\u0308rter");
  assert.equal(response.userId, user.userId);
});

test("an unknown address and a wrong password get the same answer, word for word", async () => {
  const user = await signUp();
  const answers = await Promise.all(
    [attempt(user.email, "a wrong password"), attempt(newEmail(), PASSWORD)].map((answer) =>
      answer.then(
        () => assert.fail("it was let in"),
        (error: { code: number; reason: string; message: string; metadata: unknown; retryAfterMs: unknown }) => ({
          code: error.code,
          reason: error.reason,
          message: error.message,
          metadata: error.metadata,
          retryAfterMs: error.retryAfterMs,
        }),
      ),
    ),
  );
  assert.deepEqual(answers[0], answers[1]);
  assert.deepEqual([answers[0]?.code, answers[0]?.reason], [16, "CREDENTIALS_INVALID"]);
});

test("a sign-in is noted with what the server sees of the client, a failed one too; nothing of a stranger", async () => {
  const user = await signUp();
  await signIn(user);
  await assert.rejects(attempt(user.email, "a wrong password"), { reason: "CREDENTIALS_INVALID" });
  await eventually(async () => (await rowsOf("login_events", user.userId)).length === 2, "both are noted");
  const events = await rowsOf("login_events", user.userId);
  assert.deepEqual(
    new Set(events.map(({ success, failure }) => `${success} ${failure}`)),
    new Set(["false WRONG_PASSWORD", "true "]),
  );
  for (const event of events) {
    assert.match(String(event.user_agent), /^grpc-node/);
    assert.match(String(event.device_fingerprint), /^[\w-]{43}$/);
    assert.ok(!JSON.stringify(event).includes("password,"));
  }
  const [session] = await rowsOf("sessions", user.userId);
  assert.equal(session?.session_id, events.find(({ success }) => success === true)?.session_id);
});

test("ten attempts in a row for one address, known or not, then it has to wait; right ones get theirs back", async () => {
  const user = await signUp();
  for (let index = 0; index < 15; index += 1) await signIn(user);
  for (const email of [user.email, newEmail()]) {
    const results = await Promise.allSettled(Array.from({ length: 14 }, () => attempt(email, "a wrong password")));
    const reasons = results.map((result) =>
      result.status === "rejected" ? (result.reason.reason as string) : "let in",
    );
    const wrong = reasons.filter((reason) => reason === "CREDENTIALS_INVALID").length;
    assert.ok(wrong >= 9 && wrong <= 11, `${wrong} attempts`);
    assert.equal(reasons.filter((reason) => reason === "TOO_MANY_ATTEMPTS").length, 14 - wrong);
  }
  await assert.rejects(
    attempt(user.email, PASSWORD),
    (error: { reason: string; code: number; retryAfterMs: number }) => {
      assert.deepEqual([error.reason, error.code], ["TOO_MANY_ATTEMPTS", 8]);
      assert.ok(error.retryAfterMs > 0 && error.retryAfterMs <= 6_000, `${error.retryAfterMs} ms`);
      return true;
    },
  );
  // Others are not touched.
  await signIn(await signUp());
});

test("what cannot be right is malformed, before anything is looked up", async () => {
  await assert.rejects(attempt("nobody", ""), { code: 3, fields: ["email", "password"] });
  await assert.rejects(attempt(newEmail(), "x".repeat(257)), { code: 3, fields: ["password"] });
  await assert.rejects(attempt(newEmail(), PASSWORD, { totpCode: "123456" }), { code: 3, fields: ["totp_code"] });
});

test("a challenge that nobody was given is answered like a wrong code", async () => {
  await assert.rejects(attempt("", "", { challengeId: "chal_01jd800000e03r00000000188w", totpCode: "123456" }), {
    code: 16,
    reason: "CHALLENGE_INVALID",
  });
});

/** How often each kind is tried, in turns. An address has ten attempts. */
const TRIES = 80;
const TRIES_PER_ADDRESS = 8;

test("an unknown address and a wrong password take the same time", async (t) => {
  const known: number[] = [];
  const unknown: number[] = [];
  const timed = async (email: string, times: number[]) => {
    const startedMs = performance.now();
    await assert.rejects(attempt(email, "a wrong password"), { reason: "CREDENTIALS_INVALID" });
    times.push(performance.now() - startedMs);
  };
  for (let index = 0; index < TRIES; index += TRIES_PER_ADDRESS) {
    const [user, nobody] = [await signUp(), newEmail()];
    for (let turn = 0; turn < TRIES_PER_ADDRESS; turn += 1) {
      // Each goes first half of the time.
      if (turn % 2 === 0) await timed(user.email, known);
      await timed(nobody, unknown);
      if (turn % 2 === 1) await timed(user.email, known);
    }
  }
  for (const share of [0.1, 0.25, 0.5]) {
    const [wrong, absent] = [known, unknown].map(
      (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length * share)] as number,
    ) as [number, number];
    t.diagnostic(`${share * 100} %: wrong password ${wrong.toFixed(1)} ms, unknown address ${absent.toFixed(1)} ms`);
    // A hash less would be half of it or more.
    const difference = Math.abs(wrong - absent);
    assert.ok(difference < Math.max(4, 0.2 * absent), `${difference.toFixed(1)} ms at ${share * 100} %`);
  }
});
