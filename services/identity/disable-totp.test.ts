import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { User_Role } from "#proto/ledgermesh/identity/v1/identity.ts";
import { answer, challengeOf, codeOf, signUpWithFactor, wrongCode } from "#tests/factors.ts";
import { identity } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

const disable = (tokens: { accessToken: string }, factor: { totpCode?: string; recoveryCode?: string }) =>
  call(identity, identity.disableTotp, { totpCode: "", recoveryCode: "", ...factor }, bearer(tokens));

test("it takes a code that was not used, and then signing in takes none", async () => {
  const { user, tokens, secret } = await signUpWithFactor();
  await assert.rejects(disable(tokens, {}), { code: 3 });
  await assert.rejects(disable(tokens, { totpCode: wrongCode(secret) }), { reason: "SECOND_FACTOR_INVALID" });
  await assert.rejects(disable(tokens, { totpCode: codeOf(secret, -1) }), { code: 16, reason: "SECOND_FACTOR_USED" });
  await disable(tokens, { totpCode: codeOf(secret) });
  assert.equal((await signIn(user)).userId, user.userId);
  await assert.rejects(disable(tokens, { totpCode: codeOf(secret, 1) }), { reason: "TOTP_NOT_ENROLLED" });
});

test("a recovery code will do, and who never enrolled has nothing to turn off", async () => {
  const { user, tokens, recoveryCodes } = await signUpWithFactor();
  await disable(tokens, { recoveryCode: recoveryCodes[3] as string });
  assert.equal((await signIn(user)).userId, user.userId);
  await assert.rejects(disable(await signIn(await signUp()), { totpCode: "123456" }), { reason: "TOTP_NOT_ENROLLED" });
});

test("an operator cannot turn it off, and whoever is none any more can", async () => {
  const { user, secret, recoveryCodes } = await signUpWithFactor();
  const grant = (role: User_Role) => call(identity, identity.grantRole, { email: user.email, role });
  await grant(User_Role.OPERATOR);
  const operator = await answer(await challengeOf(user), { totpCode: codeOf(secret) });
  const recoveryCode = recoveryCodes[0] as string;
  await assert.rejects(disable(operator, { recoveryCode }), { code: 9, reason: "OPERATOR_NEEDS_SECOND_FACTOR" });
  await grant(User_Role.USER);
  await disable(await answer(await challengeOf(user), { totpCode: codeOf(secret, 1) }), { recoveryCode });
});
