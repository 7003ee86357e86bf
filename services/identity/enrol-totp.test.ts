import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { codeOf, enrol, signUpWithFactor } from "#tests/factors.ts";
import { identity, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("an authenticator gets a secret and a picture of it; the database has it sealed only", async () => {
  const user = await signUp();
  const enrolment = await enrol(await signIn(user));
  const uri = new URL(enrolment.otpauthUri);
  assert.equal(uri.protocol, "otpauth:");
  assert.equal(uri.searchParams.get("secret"), enrolment.secret);
  assert.equal(uri.searchParams.get("issuer"), "Ledgermesh");
  assert.ok(decodeURIComponent(uri.pathname).endsWith(`Ledgermesh:${user.email}`), uri.pathname);
  assert.match(enrolment.secret, /^[A-Z2-7]{32}$/);
  assert.match(enrolment.qrSvg, /^<svg [\s\S]*<\/svg>$/);
  assert.doesNotMatch(enrolment.qrSvg, /script|href/);
  const inMinutes = ((enrolment.expireTime as Date).getTime() - Date.now()) / 60_000;
  assert.ok(inMinutes > 13 && inMinutes <= 15.1, `${inMinutes}`);
  const rows = await Promise.all(
    shardNumbers.map((shard) =>
      postgres(shard).query("select t::text as text from identity.totp t where user_id = $1", [
        parseId(user.userId)?.uuid,
      ]),
    ),
  );
  const text = rows.flatMap(({ rows: found }) => found.map((row) => row.text as string)).join();
  assert.match(text, /PENDING/);
  const raw = Buffer.from(
    [...enrolment.secret]
      .map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0"))
      .join("")
      .match(/.{8}/g)
      ?.map((bits) => Number.parseInt(bits, 2)) ?? [],
  );
  assert.ok(!text.includes(raw.toString("hex")) && !text.includes(enrolment.secret));
});

test("a token alone enrols nothing: it takes the password, whose guesses are counted", async () => {
  const tokens = await signIn(await signUp());
  await assert.rejects(enrol(tokens, "not the password"), { reason: "PASSWORD_WRONG" });
  await assert.rejects(call(identity, identity.enrolTotp, { password: "a sound password" }), {
    reason: "ROLE_NOT_ALLOWED",
  });
  const results = await Promise.allSettled(Array.from({ length: 14 }, () => enrol(tokens, "not the password")));
  const reasons = results.map((result) => (result.status === "rejected" ? (result.reason.reason as string) : ""));
  assert.ok(reasons.includes("TOO_MANY_ATTEMPTS"), reasons.join());
});

test("enrolling again before it is confirmed replaces the secret; once it is on, it is refused", async () => {
  const tokens = await signIn(await signUp());
  const [first, second] = [await enrol(tokens), await enrol(tokens)];
  assert.notEqual(first.secret, second.secret);
  await assert.rejects(call(identity, identity.confirmTotp, { totpCode: codeOf(first.secret) }, bearer(tokens)), {
    code: 16,
    reason: "SECOND_FACTOR_INVALID",
  });
  const { tokens: enrolled } = await signUpWithFactor();
  await assert.rejects(enrol(enrolled), { code: 9, reason: "TOTP_ALREADY_ENABLED" });
});
