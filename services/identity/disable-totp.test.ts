import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { codeOf, signUpWithFactor, wrongCode } from "#tests/factors.ts";
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
