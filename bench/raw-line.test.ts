import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Client } from "pg";
import { AMOUNT_MINOR_UNITS, CURRENCY } from "#bench/load-request.ts";
import { openRawLine, RAW_BATCH_TRANSFERS, type RawKind, rawStatements } from "#bench/raw-line.ts";
import { bucketOfUuid, idGenerator, idToUuid } from "#lib/ids.ts";
import { scratchDatabase } from "#tests/scratch-database.ts";

const BALANCE_MINOR_UNITS = 1_000n;
const SAMPLE = { postings: '[["a","b","1","EUR"]]', balances: "[]", payload: '{"memo":"\\"quoted\\" → ✓"}' };
const newId = idGenerator(Date.now);
const database = await scratchDatabase();
const db = new Client({ connectionString: database.superuser });
await db.connect();
after(async () => {
  await db.end();
  await database.drop();
});

const accountIds = Array.from({ length: 5 }, () => newId("acct", Math.floor(Math.random() * 4096)));
for (const id of accountIds) {
  await db.query(
    `insert into ledger.accounts (account_id, bucket, owner_id, opened_by, currency, kind, status, posted_minor_units,
                                  floor_minor_units, entry_sequence, reference, metadata)
     values ($1, $2, '', 'test', $3, 'WALLET', 'ACTIVE', $4, 0, 7, '', '{}')`,
    [idToUuid(id), bucketOfUuid(idToUuid(id)), CURRENCY, BALANCE_MINOR_UNITS],
  );
}
const sampleId = newId("xfer", 1);
await db.query(
  `insert into ledger.transfers (transfer_id, bucket, state, type, memo, metadata, postings, balances, post_time,
                                 effective_time, event_number)
   values ($1, 1, 'POSTED', 'transfer', '', '{}', $2, $3, now(), now(), 1)`,
  [idToUuid(sampleId), SAMPLE.postings, SAMPLE.balances],
);
await db.query(
  `insert into ledger.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
   values (1, 1, $1, 1, 'transfer_posted', 1, $2, now())`,
  [sampleId, SAMPLE.payload],
);
/** So few accounts that each is debited and credited many times within the batch. */
const pairs = Array.from({ length: RAW_BATCH_TRANSFERS }, (_, index): [string, string] => [
  accountIds[index % 5] as string,
  accountIds[(index + 1 + (index % 4)) % 5] as string,
]);

test("the set-based raw line writes the same rows as one function call for each transfer", async () => {
  const one = await rowsAfter("head");
  const many = await rowsAfter("batch");
  assert.equal(one.entries.length, 2 * RAW_BATCH_TRANSFERS);
  assert.equal(one.events.length, RAW_BATCH_TRANSFERS);
  assert.equal(one.keys[0]?.count, String(RAW_BATCH_TRANSFERS));
  assert.deepEqual(many, one);
});

test("a raw batch with an account below its floor, or with a used key, writes nothing", async () => {
  await openRawLine(database.superuser, accountIds, sampleId);
  const [payer, payee] = accountIds as [string, string];
  await db.query("update bench_raw.accounts set posted_minor_units = $2 where account_id = $1", [
    idToUuid(payer),
    BigInt(RAW_BATCH_TRANSFERS) * AMOUNT_MINOR_UNITS - 1n,
  ]);
  const next = rawStatements(SAMPLE);
  await assert.rejects(db.query(next("batch", () => [payer, payee]).statement), /never_below_floor/);
  const used = next("batch", () => [payee, payer]).statement;
  await db.query(used);
  await assert.rejects(db.query(used), /key is used/);
  const { rows } = await db.query<{ count: string }>("select count(*) from bench_raw.transfers");
  assert.equal(rows[0]?.count, String(RAW_BATCH_TRANSFERS));
});

/** What is in the tables when all pairs have been transferred; ids of transfers and times left out. */
async function rowsAfter(kind: RawKind) {
  await openRawLine(database.superuser, accountIds, sampleId);
  const next = rawStatements(SAMPLE);
  let turn = 0;
  while (turn < pairs.length) {
    await db.query(next(kind, () => pairs[turn++] as [string, string]).statement);
  }
  const read = async (sql: string) => (await db.query<Record<string, string>>(sql)).rows;
  return {
    accounts: await read(
      `select account_id, posted_minor_units, version, entry_sequence, last_post_time > '-infinity' as posted
         from bench_raw.accounts order by account_id`,
    ),
    entries: await read(
      `select account_id, sequence, bucket, posting_index, amount_minor_units, balance_after_minor_units, currency,
              counterparty_account_id, post_time = effective_time as same_time
         from bench_raw.entries order by account_id, sequence`,
    ),
    transfers: await read(
      `select bucket, state, type, memo, metadata::text, postings::text, balances::text, event_number
         from bench_raw.transfers order by event_number`,
    ),
    events: await read(
      `select e.number, e.bucket, t.transfer_id is not null as named, e.aggregate_version, e.type, e.schema_version, e.payload
         from bench_raw.events e left join bench_raw.transfers t on t.event_number = e.number order by e.number`,
    ),
    keys: await read(
      `select count(*), count(t.transfer_id) as transfers, count(distinct k.fingerprint) as fingerprints
         from bench_raw.idempotency_keys k left join bench_raw.transfers t on t.transfer_id = k.resource_id`,
    ),
    head: await read("select sequence from bench_raw.shard_head"),
  };
}
