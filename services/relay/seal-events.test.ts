import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "pg";
import { shardUrls } from "#infra/local/endpoints.ts";
import { EMPTY_CHAIN, extendChain, hashEvent } from "#lib/event-chain.ts";
import { readEvents, type StoredEvent } from "#lib/events.ts";
import { createLogger } from "#lib/log.ts";
import { alteredEvents } from "#services/relay/metrics.ts";
import { openSealer, sealWhatIsLeft } from "#services/relay/seal-events.ts";
import { scratchShard, writeEvents } from "#tests/scratch-shard.ts";
import { eventually, postgres, stackName } from "#tests/stack.ts";

/** On databases that no service knows, with the sealer as the relay uses it. */
const SHARD = 1;
const quiet = createLogger("test");
quiet.level = "silent";
const open = (db: Client) => openSealer(db, SHARD, quiet);
const allEvents = (db: Client, after = 0n) => readEvents(db, after, 5_000);

interface Seal {
  readonly first_number: string;
  readonly last_number: string;
  readonly event_hashes: Buffer;
  readonly chain_hash: Buffer;
}

async function seals(db: Client): Promise<Seal[]> {
  const { rows } = await db.query<Seal>(
    "select first_number, last_number, event_hashes, chain_hash from relay.seals order by first_number",
  );
  return rows;
}

const runs = async (db: Client) =>
  (await seals(db)).map(({ first_number, last_number }) => [Number(first_number), Number(last_number)]);

function chainOf(events: readonly StoredEvent[]): string {
  return events.reduce((chain, event) => extendChain(chain, hashEvent(SHARD, event)), EMPTY_CHAIN).toString("hex");
}

async function shardWith(count: number): Promise<Client> {
  const db = await (await scratchShard(SHARD)).connect();
  if (count > 0) await writeEvents(db, count);
  return db;
}

test("events are sealed once, in order, and the chain does not depend on how they came", async () => {
  const db = await shardWith(2_500);
  const sealer = await open(db);
  const events = await allEvents(db);
  await sealer.seal(events.slice(0, 7));
  await sealer.seal(events.slice(7, 8));
  await sealer.seal(events.slice(8));
  assert.deepEqual(await runs(db), [
    [1, 7],
    [8, 8],
    [9, 1008],
    [1009, 2008],
    [2009, 2500],
  ]);
  assert.equal(sealer.sealedTo(), 2_500n);
  const rows = await seals(db);
  assert.equal(rows.at(-1)?.chain_hash.toString("hex"), chainOf(events));
  assert.equal(rows[1]?.event_hashes.toString("hex"), hashEvent(SHARD, events[7] as StoredEvent).toString("hex"));
});

test("after a crash the same events come again, and their seals stay as they are", async () => {
  const db = await shardWith(30);
  const events = await allEvents(db);
  await (await open(db)).seal(events.slice(0, 20));
  const before = await seals(db);
  const restarted = await open(db);
  assert.equal(restarted.sealedTo(), 20n);
  await restarted.seal(events.slice(5, 30));
  const now = await seals(db);
  assert.deepEqual(now.slice(0, 1), before);
  assert.deepEqual(await runs(db), [
    [1, 20],
    [21, 30],
  ]);
  assert.equal(now.at(-1)?.chain_hash.toString("hex"), chainOf(events));
});

test("an event that comes again altered is reported; its seal stays, and later events are sealed", async () => {
  const db = await shardWith(30);
  await (await open(db)).seal((await allEvents(db)).slice(0, 20));
  const [before] = await seals(db);
  await db.query("update ledger.events set payload = replace(payload, 'payment', 'donation') where number in (7, 13)");
  const reported: { numbers: string[] }[] = [];
  const log = createLogger("test");
  log.error = ((fields: { numbers: string[] }) => reported.push(fields)) as typeof log.error;
  const counted = async () => (await alteredEvents.get()).values.reduce((sum, { value }) => sum + value, 0);
  const countedBefore = await counted();
  const sealer = await openSealer(db, SHARD, log);
  await sealer.seal(await allEvents(db));
  assert.deepEqual(
    reported.map(({ numbers }) => numbers),
    [["7", "13"]],
  );
  assert.equal((await counted()) - countedBefore, 2);
  assert.deepEqual((await seals(db))[0], before);
  assert.equal(sealer.sealedTo(), 30n);
});

test("two sealers of one shard cannot both seal, nor make a fork", async () => {
  const db = await shardWith(30);
  const events = await allEvents(db);
  const [one, other] = [await open(db), await open(db)];
  await one.seal(events.slice(0, 10));
  await assert.rejects(other.seal(events.slice(0, 5)), /duplicate key/);
  await one.seal(events.slice(10, 20));
  await assert.rejects(other.seal(events.slice(0, 5)), /duplicate key/);
  const insert = (first: number, last: number) =>
    db.query(
      `insert into relay.seals (first_number, last_number, format, event_hashes, chain_hash)
       values ($1::bigint, $2::bigint, 1, decode(repeat('00', 32 * ($2::bigint - $1::bigint + 1)::int), 'hex'), decode(repeat('00', 32), 'hex'))`,
      [first, last],
    );
  await assert.rejects(insert(6, 9), /violates foreign key/, "from the midst of another");
  await assert.rejects(insert(22, 25), /violates foreign key/, "after a gap");
  await assert.rejects(insert(21, 1_021), /at_most_1000_events/);
  assert.deepEqual(await runs(db), [
    [1, 10],
    [11, 20],
  ]);
});

test("what was published before there were seals is sealed afterwards, and so is what waits for NATS", async () => {
  const db = await shardWith(3_100);
  const sealer = await open(db);
  // The relay is further: its events are not sealed over those that are not.
  await sealer.seal(await allEvents(db, 3_000n));
  assert.equal(sealer.sealedTo(), 0n);
  const ending = new AbortController();
  const working = sealWhatIsLeft(sealer, SHARD, quiet, ending.signal);
  await eventually(() => sealer.sealedTo() === 3_100n, "everything is sealed");
  await writeEvents(db, 5);
  await eventually(() => sealer.sealedTo() === 3_105n, "so is what comes later");
  ending.abort();
  await working;
  assert.equal((await seals(db)).at(-1)?.chain_hash.toString("hex"), chainOf(await allEvents(db)));
});

test("a hole in the numbers is not sealed over", async () => {
  const db = await shardWith(50);
  await db.query("delete from ledger.events where number = 31");
  const sealer = await open(db);
  assert.deepEqual(await sealer.sealNext(), { kind: "hole", missing: 31n, found: 32n });
  assert.deepEqual(await sealer.sealNext(), { kind: "hole", missing: 31n, found: 32n });
  await sealer.seal((await allEvents(db)).slice(30));
  assert.deepEqual(await runs(db), [[1, 30]]);
});

test("nobody changes or removes a seal, not even the owner by mistake; only the relay adds one", async () => {
  const db = await shardWith(10);
  await (await open(db)).seal(await allEvents(db));
  for (const change of [
    "update relay.seals set sealed_at = now()",
    "delete from relay.seals",
    "truncate relay.seals",
    "update relay.seals set sealed_at = now() where false",
  ])
    await assert.rejects(db.query(change), /a seal is never changed or removed/, change);
  const { rows } = await db.query(
    `select r.rolname as role, p.privilege from pg_roles r
      cross join unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
      where r.rolcanlogin and not r.rolsuper and has_table_privilege(r.oid, 'relay.seals', p.privilege)`,
  );
  assert.deepEqual(rows, [{ role: "relay", privilege: "INSERT" }]);
});

test("the auditor reads every table and writes none", async () => {
  const [url] = shardUrls(stackName, "auditor");
  const auditor = new Client({ connectionString: url });
  await auditor.connect();
  try {
    const { rows } = await postgres(1).query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('ledger', 'relay') and c.relkind in ('r', 'p')`,
    );
    assert.ok(rows.length > 10);
    for (const { name } of rows) {
      await auditor.query(`select from ${name} limit 1`);
      await auditor.query("begin read write");
      await assert.rejects(auditor.query(`delete from ${name} where false`), /permission denied/);
      await auditor.query("rollback");
    }
  } finally {
    await auditor.end();
  }
});
