import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";
import { Pool } from "pg";
import { createLogger } from "#lib/log.ts";
import { type KeyTurns, rotateSigningKeys } from "#services/identity/rotate-signing-keys.ts";
import { sealFor } from "#services/identity/seal.ts";
import { openShard } from "#services/identity/shard.ts";
import { scratchDatabase } from "#tests/scratch-database.ts";

const database = await scratchDatabase();
const db = new Pool({ connectionString: database.superuser, max: 2 });
// The database goes away at the end.
db.on("error", () => {});
const log = createLogger("test");
log.level = "silent";
const shard = openShard(1, database.superuser, log);
const seal = sealFor("signing keys", randomBytes(32));
after(async () => {
  await shard.close();
  await db.end();
  await database.drop();
});

const HOUR = 3_600_000;
const TURNS: KeyTurns = { activeMs: 24 * HOUR, pendingMs: 2 * HOUR, retiredMs: HOUR };
const rotate = () => shard.transact((tx) => rotateSigningKeys(tx, seal, TURNS));

/** As if so much time had gone by. */
async function pass(hours: number): Promise<void> {
  await db.query(
    `update identity.signing_keys set created_at = created_at - make_interval(hours => $1),
       activated_at = activated_at - make_interval(hours => $1), retired_at = retired_at - make_interval(hours => $1)`,
    [hours],
  );
}

async function states(): Promise<string[]> {
  const { rows } = await db.query<{ state: string }>("select state from identity.signing_keys order by created_at");
  return rows.map(({ state }) => state);
}

test("keys take turns: published before they sign, and after, until the last token is over", async () => {
  assert.equal(await rotate(), true);
  assert.deepEqual(await states(), ["ACTIVE"]);
  await pass(21);
  assert.equal(await rotate(), false);
  await pass(1);
  assert.equal(await rotate(), true);
  assert.deepEqual(await states(), ["ACTIVE", "PENDING"]);
  await pass(1);
  assert.equal(await rotate(), false);
  await pass(1);
  assert.equal(await rotate(), true);
  assert.deepEqual(await states(), ["RETIRED", "ACTIVE"]);
  assert.equal(await rotate(), false);
  await pass(1);
  await rotate();
  assert.deepEqual(await states(), ["ACTIVE"]);
});

test("after a long stop the next key is still published before it signs", async () => {
  await pass(24 * 365);
  await rotate();
  assert.deepEqual(await states(), ["ACTIVE", "PENDING"]);
  assert.equal(await rotate(), false);
  await pass(2);
  await rotate();
  assert.deepEqual(await states(), ["RETIRED", "ACTIVE"]);
});

test("many workers at once make each move once", async () => {
  await pass(24);
  await Promise.all(Array.from({ length: 12 }, rotate));
  assert.deepEqual(await states(), ["ACTIVE", "PENDING"]);
  await pass(2);
  await Promise.all(Array.from({ length: 12 }, rotate));
  assert.deepEqual(await states(), ["RETIRED", "ACTIVE"]);
});

test("a second key can never be ACTIVE, and a state that cannot be is a defect", async () => {
  await assert.rejects(db.query("update identity.signing_keys set state = 'ACTIVE'"), { code: "23505" });
  await db.query("delete from identity.signing_keys where state = 'ACTIVE'");
  await db.query("update identity.signing_keys set state = 'PENDING'");
  await assert.rejects(rotate(), /is PENDING, and none is ACTIVE/);
});
