import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Measurement } from "#bench/measurement.ts";
import { checkMeasurement, checkShards } from "#bench/verify.ts";
import { scratchDatabase, withConnection } from "#tests/scratch-database.ts";

const database = await scratchDatabase();
after(() => database.drop());

const acknowledged = (count: number, failed = 0): Measurement => ({
  acknowledged: count,
  failed,
  firstFailures: failed === 0 ? [] : ["why"],
  measuredMs: 1_000,
  latenciesUs: Uint32Array.of(1),
});

test("what was acknowledged must be written, neither more nor less, on every shard that has a part of it", () => {
  const before = { transfers: 10, "posted legs": 3 };
  checkMeasurement("line", acknowledged(5), before, { transfers: 15, "posted legs": 8 });
  const check = (measurement: Measurement, after: typeof before) => () =>
    checkMeasurement("line", measurement, before, after);
  assert.throws(
    check(acknowledged(5), { transfers: 14, "posted legs": 8 }),
    /5 transfers .* but 4 transfers were written/,
  );
  assert.throws(check(acknowledged(5), { transfers: 15, "posted legs": 9 }), /5 transfers .* but 6 posted legs/);
  assert.throws(check(acknowledged(0), before), /nothing was acknowledged/);
  assert.throws(check(acknowledged(5, 1), { transfers: 15, "posted legs": 8 }), /1 calls failed: why/);
});

test("transit that does not cancel out, and a balance without its entries, end the bench", async () => {
  const shards = [database.superuser];
  await checkShards(shards);
  await openAccounts({ "system:transit": 5n, "system:cash": -5n });
  await assert.rejects(checkShards(shards), /transit is 5 per shard/);
  await openAccounts({ "system:transit": 0n, "system:cash": -5n });
  await assert.rejects(checkShards(shards), /shard 1 does not sum to zero/);
  await openAccounts({ "system:fees": 5n, "system:cash": -5n });
  await assert.rejects(checkShards(shards), /shard 1: 2 accounts differ from their entries/);
});

/** These and no others, with balances out of nowhere. */
async function openAccounts(postedMinorUnits: Readonly<Record<string, bigint>>): Promise<void> {
  await withConnection(database.superuser, async (db) => {
    await db.query("delete from ledger.accounts");
    await db.query(
      `insert into ledger.accounts (account_id, bucket, owner_id, opened_by, currency, kind, status, reference, metadata,
                                    posted_minor_units)
       select gen_random_uuid(), 3840, '', 'test', 'EUR', 'SYSTEM', 'ACTIVE', reference, '{}', posted
         from unnest($1::text[], $2::bigint[]) n (reference, posted)`,
      [Object.keys(postedMinorUnits), Object.values(postedMinorUnits)],
    );
  });
}
