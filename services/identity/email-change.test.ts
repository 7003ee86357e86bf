import assert from "node:assert/strict";
import { after, test } from "node:test";
import { parseId } from "#lib/ids.ts";
import type { User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { confirmEmail } from "#services/identity/confirm-email.ts";
import type { Context } from "#services/identity/context.ts";
import { advanceEmailChange, requestEmailChange } from "#services/identity/email-change.ts";
import { finishOnce } from "#services/identity/finish-email-changes.ts";
import { Crash, closeIdentityContext, identityContext } from "#tests/identity-context.ts";
import { postgres, shardNumbers } from "#tests/stack.ts";
import { emailToken, newEmail, signIn, signUp } from "#tests/users.ts";

after(closeIdentityContext);

/** More transactions than either half takes. */
const MAX_STEPS = 8;

const context = (transactions?: number) => identityContext(transactions) as Context;

async function rowsOf(table: string, user: User): Promise<Record<string, unknown>[]> {
  const uuid = parseId(user.userId, "user")?.uuid;
  const perShard = await Promise.all(
    shardNumbers.map((shard) => postgres(shard).query(`select * from identity.${table} where user_id = $1`, [uuid])),
  );
  return perShard.flatMap(({ rows }) => rows as Record<string, unknown>[]);
}

/** As the workers would, at once and twice side by side. */
async function finish(): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    const ctx = context();
    await Promise.all([...ctx.shards, ...ctx.shards].map((shard) => finishOnce(ctx, shard, 0)));
  }
}

async function request(ctx: Context, user: User, email: string): Promise<void> {
  const { uuid, bucket } = parseId(user.userId, "user") as { uuid: string; bucket: number };
  const self = { userUuid: uuid, bucket };
  const change = await ctx
    .shardOfBucket(bucket)
    .transact((db) => requestEmailChange(ctx, db, self, email, ctx.keys.emailKey(email)));
  assert.ok(change);
  await advanceEmailChange(ctx, change);
}

/** Whether it came to its end before the crash. */
async function untilCrash(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (error instanceof Crash) return false;
    throw error;
  }
}

/** Exactly one address leads to the user, and it is theirs. */
async function assertOneAddress(user: User, email: string): Promise<void> {
  const rows = await rowsOf("login_directory", user);
  assert.deepEqual(
    rows.map(({ state, email_key }) => [state, (email_key as Buffer).toString("hex")]),
    [["ACTIVE", context().keys.emailKey(email).toString("hex")]],
  );
  assert.deepEqual(
    (await rowsOf("users", user)).map((row) => row.email),
    [email],
  );
  assert.deepEqual(await rowsOf("directory_releases", user), []);
  assert.deepEqual(await rowsOf("email_changes", user), []);
  assert.equal((await signIn({ email })).userId, user.userId);
}

test("a wish whose process dies after any step is finished by a worker: the token comes, and works", async () => {
  let wasWhole = false;
  for (let steps = 1; steps <= MAX_STEPS && !wasWhole; steps += 1) {
    const user = await signUp();
    const email = newEmail();
    wasWhole = await untilCrash(request(context(steps), user, email));
    await finish();
    assert.deepEqual(
      (await rowsOf("email_changes", user)).map(({ state }) => state),
      ["PENDING"],
      `${steps} steps`,
    );
    await confirmEmail(context(), { token: await emailToken(email) });
    await assertOneAddress(user, email);
  }
  assert.ok(wasWhole);
});

test("a confirmed change whose process dies after any step is finished by a worker", async () => {
  let wasWhole = false;
  for (let steps = 1; steps <= MAX_STEPS && !wasWhole; steps += 1) {
    const user = await signUp();
    const email = newEmail();
    await request(context(), user, email);
    const token = await emailToken(email);
    wasWhole = await untilCrash(confirmEmail(context(steps), { token }));
    // Somebody can always sign in as the user, with one of the two addresses at least.
    const signedIn = await Promise.allSettled([signIn(user), signIn({ email })]);
    assert.ok(
      signedIn.some(({ status }) => status === "fulfilled"),
      `${steps} steps`,
    );
    await finish();
    await assertOneAddress(user, email);
    assert.deepEqual(await confirmEmail(context(), { token }), { email });
  }
  assert.ok(wasWhole);
});

test("a second wish after a crash at any step leaves nothing of the first", async () => {
  for (let steps = 1; steps <= 3; steps += 1) {
    const user = await signUp();
    const [first, second] = [newEmail(), newEmail()];
    await untilCrash(request(context(steps), user, first));
    await request(context(), user, second);
    await finish();
    await confirmEmail(context(), { token: await emailToken(second) });
    await assertOneAddress(user, second);
    await signUp({ email: first });
  }
});

test("a reservation that was lost ends the change, and the user keeps their address", async () => {
  const user = await signUp();
  const email = newEmail();
  await request(context(), user, email);
  const token = await emailToken(email);
  for (const shard of shardNumbers) {
    await postgres(shard).query("delete from identity.login_directory where email_key = $1", [
      context().keys.emailKey(email),
    ]);
  }
  const other = await signUp({ email });
  await assert.rejects(confirmEmail(context(), { token }), { reason: "EMAIL_ALREADY_USED" });
  await finish();
  await assertOneAddress(user, user.email);
  assert.equal((await signIn({ email })).userId, other.userId);
});
