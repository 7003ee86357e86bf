import assert from "node:assert/strict";
import { after, test } from "node:test";
import { takeAwayOnce } from "#services/identity/maintenance.ts";
import type { Shard } from "#services/identity/shard.ts";
import { closeIdentityContext, identityContext } from "#tests/identity-context.ts";
import { postgres } from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

after(closeIdentityContext);

test("what has had its time goes, in batches, and what has not stays", async () => {
  const shard = identityContext().shards[0] as Shard;
  const db = postgres(1);
  await db.query(
    `insert into identity.sign_in_limits select gen_random_uuid()::text::bytea, 1, 10, now() - interval '2 hours' from generate_series(1, 1500)`,
  );
  await db.query(
    `insert into identity.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id, created_at)
     select 1, 'old', 'm', n::text, '', gen_random_uuid(), now() - make_interval(days => case n when 1 then 29 else 31 end)
       from generate_series(1, 3) n`,
  );
  await db.query(
    `insert into identity.login_directory (email_key, bucket, user_id, state, change_id, expires_at)
     values ('expired', 1, gen_random_uuid(), 'RESERVED', gen_random_uuid(), now() - interval '1 second'),
            ('not expired', 1, gen_random_uuid(), 'RESERVED', gen_random_uuid(), now() + interval '1 minute')`,
  );
  const user = await signUp();
  assert.equal(await takeAwayOnce(shard), true);
  while (await takeAwayOnce(shard));
  const count = async (query: string) => (await db.query(query)).rows[0]?.count as string;
  assert.equal(
    await count("select count(*) from identity.sign_in_limits where updated_at < now() - interval '1 hour'"),
    "0",
  );
  assert.equal(await count("select count(*) from identity.idempotency_keys where caller = 'old'"), "1");
  assert.equal(
    await count("select count(*) from identity.login_directory where email_key in ('expired', 'not expired')"),
    "1",
  );
  await signIn(user);
  await db.query("delete from identity.login_directory where email_key = 'not expired'");
});
