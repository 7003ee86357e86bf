import assert from "node:assert/strict";
import { after, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import {
  CreateUserRequest,
  UpdateUserRequest,
  User_Role,
  User_Status,
  type UserSettings,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { addressLimit } from "#services/identity/address-limit.ts";
import type { Context } from "#services/identity/context.ts";
import { createUser } from "#services/identity/create-user.ts";
import { oneAtATime } from "#services/identity/one-at-a-time.ts";
import { closeIdentityContext, identityContext } from "#tests/identity-context.ts";
import { identity, newKey, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, emailToken, newEmail, PASSWORD, signIn, signUpRequest } from "#tests/users.ts";

after(closeIdentityContext);

/** Rows of a table of identity with this user, over all shards. */
async function count(table: "users" | "login_directory", userId: string): Promise<number> {
  const uuid = parseId(userId, "user")?.uuid;
  const perShard = await Promise.all(
    shardNumbers.map((shard) => postgres(shard).query(`select from identity.${table} where user_id = $1`, [uuid])),
  );
  return perShard.reduce((sum, { rows }) => sum + rows.length, 0);
}

test("somebody signs up, and answers as they are", async () => {
  const email = newEmail();
  const { response: user } = await call(
    identity,
    identity.createUser,
    signUpRequest({
      email: email.toUpperCase(),
      name: "Ada Lovelace",
      phone: "+420601123456",
      role: User_Role.MERCHANT,
      settings: { language: "CS", timeZone: "Europe/Prague", emailOnPayment: true },
    }),
  );
  assert.deepEqual(
    { ...user, userId: "", createTime: undefined, passwordChangeTime: undefined },
    {
      userId: "",
      role: User_Role.MERCHANT,
      status: User_Status.ACTIVE,
      email,
      name: "Ada Lovelace",
      phone: "+420601123456",
      country: "CZ",
      settings: { language: "cs", timeZone: "Europe/Prague", emailOnPayment: true },
      version: 1n,
      createTime: undefined,
      passwordChangeTime: undefined,
      pendingEmail: "",
    },
  );
  assert.equal(await count("users", user.userId), 1);
  assert.equal(await count("login_directory", user.userId), 1);
});

test("people live all over the shards, in user buckets, where their address says", async () => {
  const users = await Promise.all(
    Array.from({ length: 24 }, async () => (await call(identity, identity.createUser, signUpRequest())).response),
  );
  const buckets = users.map(({ userId }) => parseId(userId, "user")?.bucket ?? -1);
  assert.ok(buckets.every((bucket) => bucket >= 0 && bucket < 3840));
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query<{ wrong: string }>(
      `select count(*) filter (where u.bucket <> d.bucket) as wrong from identity.users u join identity.login_directory d using (user_id)
        where d.change_id is null`,
    );
    assert.deepEqual(rows, [{ wrong: "0" }], `shard ${shard}`);
  }
});

test("50 identical sign-ups at once make one user; the others get the first answer again", async () => {
  const request = signUpRequest();
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(identity, identity.createUser, request)));
  const [userId, ...others] = new Set(answers.map(({ response }) => response.userId));
  assert.deepEqual(others, []);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(await count("users", userId as string), 1);
  assert.equal(await count("login_directory", userId as string), 1);
});

test("50 sign-ups of one address at once, each by somebody else, make one user", async () => {
  const email = newEmail();
  const results = await Promise.allSettled(
    Array.from({ length: 50 }, (_, index) =>
      call(identity, identity.createUser, signUpRequest({ email: index % 2 === 0 ? email : email.toUpperCase() })),
    ),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
  for (const result of results) {
    if (result.status === "rejected") assert.equal((result.reason as { reason: string }).reason, "EMAIL_ALREADY_USED");
  }
});

test("a retry replays, another body under the key is refused and names the user, another address is another command", async () => {
  const request = signUpRequest();
  const { response: first } = await call(identity, identity.createUser, request);
  const again = await call(identity, identity.createUser, request);
  assert.deepEqual([again.response, again.replayed], [first, true]);
  for (const change of [{ name: "Somebody else" }, { password: "another password" }]) {
    await assert.rejects(call(identity, identity.createUser, { ...request, ...change }), {
      code: 6,
      reason: "IDEMPOTENCY_KEY_REUSED",
      metadata: { idempotency_key: request.idempotencyKey, resource_type: "user", resource_name: first.userId },
    });
  }
  const other = await call(identity, identity.createUser, { ...request, email: newEmail() });
  assert.notEqual(other.response.userId, first.userId);
});

test("who repeats a sign-up hears what they sent, and nothing of what the user has become", async () => {
  const request = signUpRequest({ phone: "+420601123456", settings: { language: "cs" } as UserSettings });
  const { response: first } = await call(identity, identity.createUser, request);
  const headers = bearer(await signIn(first));
  const idempotencyKey = newKey();
  const change = UpdateUserRequest.fromPartial({ name: "Augusta", phone: "+420601999999", idempotencyKey });
  await call(identity, identity.updateUser, change, headers);
  const asked = async (email: string) => {
    await call(
      identity,
      identity.changeEmail,
      { newEmail: email, password: PASSWORD, idempotencyKey: newKey() },
      headers,
    );
    return email;
  };
  await call(identity, identity.confirmEmail, { token: await emailToken(await asked(newEmail())) });
  await asked(newEmail());
  const again = await call(identity, identity.createUser, request);
  assert.deepEqual([again.response, again.replayed], [first, true]);
});

test("a repeated sign-up counts as an attempt, whether anybody has signed up so or not", async () => {
  const ctx = {
    ...identityContext(),
    signUps: oneAtATime(),
    addressLimit: addressLimit({ burst: 2, perSecond: 1 }, () => 1_000),
  } as unknown as Context;
  const request = signUpRequest();
  await call(identity, identity.createUser, request);
  const through = { peer: "gateway", clientAddress: "192.0.2.1", markReplayed: () => undefined } as unknown as Call;
  for (let round = 0; round < 2; round += 1) await createUser(ctx, request, through);
  await assert.rejects(createUser(ctx, request, through), { reason: "TOO_MANY_ATTEMPTS" });
});

test("an address that is taken, and a password that everybody has, are refused", async () => {
  const request = signUpRequest();
  await call(identity, identity.createUser, request);
  await assert.rejects(call(identity, identity.createUser, { ...request, idempotencyKey: newKey() }), {
    code: 6,
    reason: "EMAIL_ALREADY_USED",
  });
  await assert.rejects(call(identity, identity.createUser, signUpRequest({ password: "Password1" })), {
    code: 3,
    reason: "PASSWORD_TOO_COMMON",
    fields: ["password"],
  });
});

test("a malformed request names every field, writes nothing, and does not use up its key", async () => {
  const request = signUpRequest();
  const bad = CreateUserRequest.fromPartial({
    email: "nobody",
    password: "short",
    name: "",
    phone: "601",
    country: "XX",
    role: User_Role.OPERATOR,
    settings: { language: "no such", timeZone: "Mars/Olympus" },
    idempotencyKey: request.idempotencyKey,
  });
  await assert.rejects(call(identity, identity.createUser, bad), {
    code: 3,
    reason: "MALFORMED_REQUEST",
    fields: ["email", "password", "name", "phone", "country", "role", "settings.language", "settings.time_zone"],
  });
  assert.equal((await call(identity, identity.createUser, request)).replayed, false);
  await assert.rejects(call(identity, identity.createUser, { ...signUpRequest(), idempotencyKey: "" }), {
    reason: "IDEMPOTENCY_KEY_REQUIRED",
  });
});

test("neither the password nor the address is to be found in the database, hashes and the user's own row aside", async () => {
  const request = signUpRequest({ password: `secret ${newKey()}` });
  const { response: user } = await call(identity, identity.createUser, request);
  for (const shard of shardNumbers) {
    const { rows: tables } = await postgres(shard).query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'identity' and c.relkind = 'r'`,
    );
    for (const { name } of tables) {
      const { rows } = await postgres(shard).query<{ text: string }>(
        `select t::text as text from ${name} t where t::text like '%' || $1 || '%' or t::text like '%' || $2 || '%'`,
        [request.password, request.email],
      );
      assert.equal(rows.length, name === "identity.users" ? rows.length : 0, name);
      for (const { text } of rows)
        assert.ok(!text.includes(request.password) && text.includes(parseId(user.userId)?.uuid ?? "?"));
    }
  }
});
