import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { UpdateUserRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newKey } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

async function someone() {
  const user = await signUp({ phone: "+420601123456" });
  const headers = bearer(await signIn(user));
  const update = (change: Partial<UpdateUserRequest>) =>
    call(
      identity,
      identity.updateUser,
      UpdateUserRequest.fromPartial({ idempotencyKey: newKey(), ...change }),
      headers,
    );
  return { user, headers, update };
}

test("what is given changes, and nothing else", async () => {
  const { user, update } = await someone();
  const { response: renamed } = await update({ name: "Ada King" });
  assert.deepEqual(renamed, { ...user, name: "Ada King", version: 2n });
  const settings = { language: "cs", timeZone: "Europe/Prague", emailOnPayment: true };
  const { response: moved } = await update({ phone: "", country: "GB", settings });
  assert.deepEqual(moved, { ...renamed, phone: "", country: "GB", settings, version: 3n });
});

test("the same call again changes nothing; another one under its key is refused", async () => {
  const { user, update } = await someone();
  const idempotencyKey = newKey();
  const answers = await Promise.all(Array.from({ length: 10 }, () => update({ name: "Once", idempotencyKey })));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.ok(answers.every(({ response }) => response.version === 2n && response.userId === user.userId));
  await assert.rejects(update({ name: "Twice", idempotencyKey }), { code: 6, reason: "IDEMPOTENCY_KEY_REUSED" });
});

test("a key of one user is not another's", async () => {
  const [ada, eve] = await Promise.all([someone(), someone()]);
  const idempotencyKey = newKey();
  await ada.update({ name: "Ada K.", idempotencyKey });
  assert.equal((await eve.update({ name: "Eve K.", idempotencyKey })).replayed, false);
});

test("malformed fields are named, and so is a call that changes nothing", async () => {
  const { update } = await someone();
  await assert.rejects(update({ name: "", phone: "1", country: "cz" }), {
    code: 3,
    fields: ["name", "phone", "country"],
  });
  await assert.rejects(update({}), { code: 3, fields: ["name"] });
  await assert.rejects(update({ name: "x", idempotencyKey: "" }), { reason: "IDEMPOTENCY_KEY_REQUIRED" });
});
