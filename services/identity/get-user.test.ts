import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { identity } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("who asks with a token is told who they are, and nobody else", async () => {
  const [ada, eve] = await Promise.all([signUp({ name: "Ada" }), signUp({ name: "Eve" })]);
  for (const user of [ada, eve]) {
    const { response } = await call(identity, identity.getUser, {}, bearer(await signIn(user)));
    assert.deepEqual(response, user);
  }
});

test("a service is nobody whose things it could ask for", async () => {
  await assert.rejects(call(identity, identity.getUser, {}), { code: 7, reason: "ROLE_NOT_ALLOWED" });
});
