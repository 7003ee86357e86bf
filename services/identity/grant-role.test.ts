import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { User_Role } from "#proto/ledgermesh/identity/v1/identity.ts";
import { answer, challengeOf, codeOf, enrol, signUpWithFactor } from "#tests/factors.ts";
import { identity } from "#tests/stack.ts";
import { bearer, newEmail, signIn, signUp } from "#tests/users.ts";

test("the console makes an operator: the sessions of before end, and the next token says so", async () => {
  const { user, tokens: before, secret } = await signUpWithFactor();
  const grant = () => call(identity, identity.grantRole, { email: user.email, role: User_Role.OPERATOR });
  const { response } = await grant();
  assert.deepEqual([response.userId, response.role, response.version], [user.userId, User_Role.OPERATOR, 3n]);
  assert.deepEqual((await grant()).response, response);
  await assert.rejects(
    call(identity, identity.refreshSession, { refreshToken: before.refreshToken, idempotencyKey: "" }),
    { reason: "REFRESH_TOKEN_INVALID" },
  );
  const { accessToken } = await answer(await challengeOf(user), { totpCode: codeOf(secret) });
  const claims = JSON.parse(Buffer.from(accessToken.split(".")[1] ?? "", "base64url").toString()) as { role: string };
  assert.equal(claims.role, "OPERATOR");
});

test("who has no second factor, or has only begun to enrol one, is not made an operator", async () => {
  const user = await signUp();
  const grant = () => call(identity, identity.grantRole, { email: user.email, role: User_Role.OPERATOR });
  await assert.rejects(grant(), { code: 9, reason: "OPERATOR_NEEDS_SECOND_FACTOR" });
  const tokens = await signIn(user);
  await enrol(tokens);
  await assert.rejects(grant(), { code: 9, reason: "OPERATOR_NEEDS_SECOND_FACTOR" });
  // Nothing has ended.
  await call(identity, identity.refreshSession, { refreshToken: tokens.refreshToken, idempotencyKey: "" });
});

test("nobody makes themselves an operator", async () => {
  const user = await signUp();
  const request = { email: user.email, role: User_Role.OPERATOR };
  await assert.rejects(call(identity, identity.grantRole, request, bearer(await signIn(user))), {
    code: 7,
    reason: "ROLE_NOT_ALLOWED",
  });
});

test("who is not there, or is to be what is no role, is refused", async () => {
  await assert.rejects(call(identity, identity.grantRole, { email: newEmail(), role: User_Role.OPERATOR }), {
    code: 5,
    reason: "USER_NOT_FOUND",
  });
  await assert.rejects(call(identity, identity.grantRole, { email: "x", role: User_Role.ROLE_UNSPECIFIED }), {
    code: 3,
    fields: ["email", "role"],
  });
});
