import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { linkCard } from "#tests/funding-sources.ts";
import { identity } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

test("everybody sees their own, newest first, and nobody else's", async () => {
  const [ada, eve] = await Promise.all([signUp().then(signIn), signUp().then(signIn)]);
  const [first, second] = [await linkCard(ada), await linkCard(ada, { name: "Mastercard" })];
  const list = async (tokens: typeof ada) =>
    (await call(identity, identity.listFundingSources, {}, bearer(tokens))).response.fundingSources;
  assert.deepEqual(await list(ada), [second, first]);
  assert.deepEqual(await list(eve), []);
  await assert.rejects(call(identity, identity.listFundingSources, {}), { reason: "ROLE_NOT_ALLOWED" });
});
