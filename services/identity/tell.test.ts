import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { UpdateUserRequest, User_Role } from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newKey, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, PASSWORD, signIn, signUp } from "#tests/users.ts";

interface Told {
  readonly type: string;
  readonly aggregate_id: string;
  readonly aggregate_version: string;
  readonly payload: string;
}

async function toldOf(userId: string): Promise<Told[]> {
  const perShard = await Promise.all(
    shardNumbers.map((shard) =>
      postgres(shard).query<Told>(
        `select type, aggregate_id, aggregate_version, payload from identity.events
          where payload::json->>'user_id' = $1 and type <> 'fraud_signal' order by number`,
        [userId],
      ),
    ),
  );
  return perShard.flatMap(({ rows }) => rows);
}

test("what becomes of a user and their sessions is told in order, with rising versions and nothing personal", async () => {
  const user = await signUp({ name: "Ada Lovelace", phone: "+420601123456" });
  const [first, second] = [await signIn(user), await signIn(user)];
  await call(
    identity,
    identity.updateUser,
    UpdateUserRequest.fromPartial({ name: "Ada King", idempotencyKey: newKey() }),
    bearer(first),
  );
  await call(identity, identity.deleteSession, { sessionId: second.sessionId }, bearer(first));
  await call(identity, identity.deleteSession, { sessionId: second.sessionId }, bearer(first));
  await call(identity, identity.grantRole, { email: user.email, role: User_Role.MERCHANT });
  const third = await signIn(user);
  await call(identity, identity.closeUser, { password: PASSWORD, idempotencyKey: newKey() }, bearer(third));

  const told = await toldOf(user.userId);
  const brief = told.map(({ type, payload }) => {
    const { reason, changed_fields: fields } = JSON.parse(payload) as { reason?: string; changed_fields?: string[] };
    return [type, ...(reason === undefined ? [] : [reason]), ...(fields ?? [])].join(" ");
  });
  assert.deepEqual(brief, [
    "user_created",
    "session_created",
    "session_created",
    "user_updated name",
    "session_revoked SIGNED_OUT",
    "user_updated role",
    "session_revoked ROLE_CHANGED",
    "session_created",
    "user_closed",
    "session_revoked USER_CLOSED",
  ]);
  const versions = told
    .filter(({ aggregate_id }) => aggregate_id === user.userId)
    .map(({ aggregate_version }) => BigInt(aggregate_version));
  assert.ok(
    versions.every((version, index) => index === 0 || version > (versions[index - 1] as bigint)),
    versions.join(),
  );
  const text = JSON.stringify(told);
  for (const personal of [user.email, "Ada", "+420601123456"]) assert.ok(!text.includes(personal));
});

test("a repeated sign-up and a refused one tell nothing more", async () => {
  const user = await signUp();
  await assert.rejects(signUp({ email: user.email }), { reason: "EMAIL_ALREADY_USED" });
  assert.deepEqual(
    (await toldOf(user.userId)).map(({ type }) => type),
    ["user_created"],
  );
});
