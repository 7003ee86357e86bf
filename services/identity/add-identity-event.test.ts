import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Client } from "pg";
import { IDENTITY_LOG, readEvents } from "#lib/events.ts";
import { FraudSignal_Severity, FraudSignal_Type } from "#proto/ledgermesh/identity/v1/events.ts";
import { CallerRole } from "#proto/ledgermesh/options/v1/callers.ts";
import { addIdentityEvent, type IdentityEvent } from "#services/identity/add-identity-event.ts";
import { scratchShard } from "#tests/scratch-shard.ts";

/** On a database that no service knows, with the SQL function as the migrations apply it. */
async function openLog(): Promise<{ connect: () => Promise<Client> }> {
  const shard = await scratchShard();
  const db = await shard.connect();
  await db.query(readFileSync("services/identity/add-identity-event.sql", "utf8"));
  return shard;
}

const created = (userId: string): IdentityEvent => ({
  type: "user_created",
  bucket: 7,
  aggregateId: userId,
  aggregateVersion: 1n,
  payload: { userId, role: CallerRole.USER },
});

test("an event is in the log as soon as its change is, and not at all when the change is taken back", async () => {
  const db = await (await openLog()).connect();
  await db.query("begin");
  assert.equal(await addIdentityEvent(db, created("user_a")), 1n);
  assert.equal(
    await addIdentityEvent(db, {
      type: "fraud_signal",
      bucket: 7,
      aggregateId: "sgnl_a",
      aggregateVersion: 1n,
      payload: {
        schemaVersion: 1,
        userId: "user_a",
        type: FraudSignal_Type.NEW_DEVICE,
        severity: FraudSignal_Severity.LOW,
        loginEventId: "logn_a",
      },
    }),
    2n,
  );
  await db.query("commit");
  await db.query("begin");
  assert.equal(await addIdentityEvent(db, created("user_b")), 3n);
  await db.query("rollback");
  await db.query("begin");
  assert.equal(await addIdentityEvent(db, created("user_c")), 3n);
  await db.query("commit");
  const events = await readEvents(db, 0n, 10, IDENTITY_LOG);
  assert.deepEqual(
    events.map(({ number, bucket, aggregateId, type, payload }) => [number, bucket, aggregateId, type, payload]),
    [
      [1n, 7, "user_a", "user_created", '{"user_id":"user_a","role":"USER"}'],
      [
        2n,
        7,
        "sgnl_a",
        "fraud_signal",
        '{"schema_version":1,"user_id":"user_a","type":"NEW_DEVICE","severity":"LOW","login_event_id":"logn_a"}',
      ],
      [3n, 7, "user_c", "user_created", '{"user_id":"user_c","role":"USER"}'],
    ],
  );
});

test("under many writers at once numbers have no gap, and no number is visible before the one below it", async () => {
  const shard = await openLog();
  const [reader, ...writers] = await Promise.all(Array.from({ length: 9 }, () => shard.connect()));
  let writing = true;
  const watching = (async () => {
    let seen = 0n;
    while (writing) {
      for (const { number } of await readEvents(reader as Client, seen, 500, IDENTITY_LOG)) {
        assert.equal(number, seen + 1n);
        seen = number;
      }
    }
  })();
  const EACH = 60;
  await Promise.all(
    writers.map(async (db, writer) => {
      for (let index = 0; index < EACH; index += 1) {
        await db.query("begin");
        await addIdentityEvent(db, created(`user_${writer}_${index}`));
        await db.query(index % 5 === 0 ? "rollback" : "commit");
      }
    }),
  );
  writing = false;
  await watching;
  const { rows } = await (reader as Client).query(
    "select count(*)::int as count, max(number)::int as last, (select sequence::int from identity.shard_head) as head from identity.events",
  );
  const kept = writers.length * (EACH - EACH / 5);
  assert.deepEqual(rows, [{ count: kept, last: kept, head: kept }]);
});

test("no service may change or delete an identity event, and only identity adds one", async () => {
  const db = await (await openLog()).connect();
  const { rows } = await db.query<{ role: string; privilege: string }>(
    `select r.rolname as role, p.privilege from pg_roles r
      cross join unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p (privilege)
      where r.rolcanlogin and not r.rolsuper and has_table_privilege(r.oid, 'identity.events', p.privilege)`,
  );
  assert.deepEqual(rows, [{ role: "identity", privilege: "INSERT" }]);
});
