import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { eventually, identity, newKey, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, emailToken, newEmail, PASSWORD, signIn, signUp } from "#tests/users.ts";

const confirm = (token: string) => call(identity, identity.confirmEmail, { token });

test("a token that is altered or made up confirms nothing", async () => {
  const user = await signUp();
  const email = newEmail();
  const request = { newEmail: email, password: PASSWORD, idempotencyKey: newKey() };
  await call(identity, identity.changeEmail, request, bearer(await signIn(user)));
  const token = await emailToken(email);
  const bytes = Buffer.from(token, "base64url");
  for (const index of [0, 15, 16, 47]) {
    const altered = Buffer.from(bytes);
    altered[index] = (altered[index] as number) ^ 1;
    await assert.rejects(confirm(altered.toString("base64url")), { code: 9, reason: "EMAIL_TOKEN_INVALID" });
  }
  for (const text of ["", "x", `${token}=`, "A".repeat(64)])
    await assert.rejects(confirm(text), { reason: "EMAIL_TOKEN_INVALID" });
  await confirm(token);
});

test("after 24 hours the token is of no use, and the address is free again", async () => {
  const user = await signUp();
  const email = newEmail();
  const request = { newEmail: email, password: PASSWORD, idempotencyKey: newKey() };
  await call(identity, identity.changeEmail, request, bearer(await signIn(user)));
  const token = await emailToken(email);
  const uuid = parseId(user.userId, "user")?.uuid;
  for (const shard of shardNumbers) {
    await postgres(shard).query("update identity.email_changes set expires_at = now() where user_id = $1", [uuid]);
  }
  await assert.rejects(confirm(token), { reason: "EMAIL_TOKEN_INVALID" });
  await eventually(
    () =>
      signUp({ email }).then(
        () => true,
        () => false,
      ),
    "the worker has released the address",
    20_000,
  );
});
