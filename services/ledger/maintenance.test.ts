import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "pg";
import { type Answer, call } from "#lib/grpc-client.ts";
import { createLogger } from "#lib/log.ts";
import {
  Account_Kind,
  CreateAccountRequest,
  type LedgerServiceClient,
  type Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { expireKeys, makePartitions } from "#services/ledger/maintenance.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import { type ScratchDatabase, scratchDatabase, withConnection } from "#tests/scratch-database.ts";
import { eventually, newId, newKey, transferRequest } from "#tests/stack.ts";

/** On a database of its own: partitions are dropped here, and rows of other months and ages are put in. */
const GRPC_PORT = 17_240;
const TABLES = ["entries", "events", "quotes", "remote_legs", "transfers"];
const RETENTION_DAYS = 30;
const log = createLogger("test");
log.level = "silent";
const { signal } = new AbortController();

let scratch: ScratchDatabase;
before(async () => {
  scratch = await scratchDatabase();
});
after(() => scratch.drop());

const asSuperuser = <Value>(use: (db: Client) => Promise<Value>) => withConnection(scratch.superuser, use);
const asLedger = <Value>(use: (db: Client) => Promise<Value>) => withConnection(scratch.ledger, use);
const make = (db: Client) => makePartitions(db, 1, log, signal);
const expire = (db: Client, days = RETENTION_DAYS) => expireKeys(db, 1, days, log, signal);

/** The first day of a month, `ahead` months from now, as the partitions' names have it, and as a date. */
async function monthAhead(db: Client, ahead: number): Promise<{ suffix: string; date: string }> {
  const { rows } = await db.query<{ suffix: string; date: string }>(
    `select to_char(month, 'YYYYMM') as suffix, to_char(month, 'YYYY-MM-DD') as date
       from (select date_trunc('month', now() at time zone 'UTC') + make_interval(months => $1) as month) m`,
    [ahead],
  );
  return rows[0] as { suffix: string; date: string };
}

/** Puts a month back into the default partitions, as if its partitions had never been made. */
async function unmakeMonth(db: Client, ahead: number, tables = TABLES): Promise<void> {
  const { suffix } = await monthAhead(db, ahead);
  for (const table of tables) {
    await db.query(`begin; lock table only ledger.${table} in access exclusive mode;
      alter table ledger.${table} detach partition ledger.${table}_${suffix};
      insert into ledger.${table}_default select * from ledger.${table}_${suffix};
      drop table ledger.${table}_${suffix}; commit`);
  }
}

/** Rows of every table, a minute apart from the first of a month on. */
async function insertRows(db: Client, date: string, count: number): Promise<void> {
  await db.query(
    `with n as (select i, $1::timestamptz + make_interval(mins => i) as at,
                       overlay(ledger.first_id_of($1::timestamptz + make_interval(mins => i))::text
                               placing '7' || lpad(to_hex(i), 3, '0') || '-8' from 15 for 6)::uuid as id
                  from generate_series(1, $2::int) i),
          e as (insert into ledger.entries select id, i, 0, id, 0, 1, 1, 'EUR', id, at, at from n),
          v as (insert into ledger.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
                select i, 0, 'x', 1, 'x', 1, '{}', at from n),
          l as (insert into ledger.remote_legs (transfer_id, posting_index, bucket, debit_account_id, credit_account_id, debit_is_here,
                  credit_is_here, amount_minor_units, currency, type, memo, state)
                select id, 0, 0, id, id, true, false, 1, 'EUR', '', '', 'PREPARED' from n),
          q as (insert into ledger.quotes (quote_id, bucket, caller, sell_currency, sell_minor_units, buy_currency, buy_minor_units,
                  residue_minor_units, rate, created_at, expire_time, state)
                select id, 0, 'x', 'EUR', 1, 'USD', 1, 0, '1', at, at, 'OPEN' from n)
     insert into ledger.transfers (transfer_id, bucket, state, type, memo, metadata, postings, balances, post_time, effective_time, event_number)
     select id, 0, 'POSTED', '', '', '{}', '[]', '[]', at, at, i from n`,
    [`${date}T00:00:00Z`, count],
  );
}

/** Where the rows of a table are, and what they are, all of them. */
async function contents(db: Client, table: string) {
  const { rows } = await db.query<{ partition: string; rows: string; content: string }>(
    `select tableoid::regclass::text as partition, count(*) as rows,
            md5(string_agg(r::text, '' order by r::text)) as content
       from ledger.${table} r group by 1 order by 1`,
  );
  return rows;
}

test("every table that is partitioned by range is among the monthly tables", async () => {
  const { rows } = await asSuperuser((db) =>
    db.query<{ relname: string }>(
      `select relname from pg_partitioned_table p join pg_class c on c.oid = p.partrelid
        where partstrat = 'r' and relnamespace = 'ledger'::regnamespace
       except select parent from ledger.monthly_tables()`,
    ),
  );
  assert.deepEqual(rows, []);
});

test("rows of a month without partitions go to the default, and the worker moves them: none lost, none doubled", async () => {
  await asSuperuser(async (db) => {
    await unmakeMonth(db, 1);
    const { suffix, date } = await monthAhead(db, 1);
    await asLedger((ledger) => insertRows(ledger, date, 300));
    const before = new Map<string, Awaited<ReturnType<typeof contents>>>();
    for (const table of TABLES) before.set(table, await contents(db, table));
    const made = await asLedger(make);
    assert.deepEqual(made, { made: TABLES.length, movedRows: TABLES.length * 300, busy: 0, tooLarge: 0 });
    for (const table of TABLES) {
      const [fallen] = before.get(table) ?? [];
      assert.deepEqual([fallen?.partition, fallen?.rows], [`ledger.${table}_default`, "300"]);
      assert.deepEqual(await contents(db, table), [{ ...fallen, partition: `ledger.${table}_${suffix}` }]);
    }
    for (const table of TABLES) await db.query(`truncate ledger.${table}`);
  });
});

test("a partition that the worker makes is as one that the migrations make: keys, indexes, rights", async () => {
  await asSuperuser(async (db) => {
    const { suffix } = await monthAhead(db, 2);
    const shape = async () =>
      (
        await db.query(
          `select c.relname, pg_get_expr(c.relpartbound, c.oid) as bounds, c.relacl::text, c.relowner::regrole::text as owner,
                  (select array_agg(pg_get_indexdef(indexrelid) || ' ' || inhparent::regclass order by 1)
                     from pg_index i left join pg_inherits h on h.inhrelid = i.indexrelid where i.indrelid = c.oid) as indexes,
                  (select array_agg(attname || ' ' || format_type(atttypid, atttypmod) || attnotnull order by attnum)
                     from pg_attribute where attrelid = c.oid and attnum > 0) as columns,
                  (select array_agg(pg_get_constraintdef(oid) order by 1) from pg_constraint where conrelid = c.oid) as constraints
             from pg_class c where relname like '%\\_' || $1 and relkind = 'r' order by c.oid::regclass::text`,
          [suffix],
        )
      ).rows;
    const before = await shape();
    // The identity log as well.
    assert.equal(before.length, TABLES.length + 1);
    await db.query(TABLES.map((table) => `drop table ledger.${table}_${suffix};`).join(""));
    await db.query(`drop table identity.events_${suffix}`);
    await asLedger(make);
    assert.deepEqual(await shape(), before);
  });
});

test("a past month, and one far ahead, that fell into the default get their partitions too", async () => {
  await asLedger((db) => insertRows(db, "2025-02-01", 3));
  await asLedger((db) => insertRows(db, "2031-12-01", 4));
  assert.deepEqual(await asLedger(make), {
    made: 2 * TABLES.length,
    movedRows: 7 * TABLES.length,
    busy: 0,
    tooLarge: 0,
  });
  await asSuperuser(async (db) => {
    for (const table of TABLES) {
      const found = (await contents(db, table)).map(({ partition, rows }) => [partition, rows]);
      assert.deepEqual(found, [
        [`ledger.${table}_202502`, "3"],
        [`ledger.${table}_203112`, "4"],
      ]);
      await db.query(`drop table ledger.${table}_202502, ledger.${table}_203112`);
    }
  });
});

test("workers at once make every partition once", async () => {
  for (let round = 0; round < 2; round += 1) {
    await asSuperuser(async (db) => {
      for (const ahead of [0, 1, 2, 3]) await unmakeMonth(db, ahead);
      await insertRows(db, (await monthAhead(db, 0)).date, 50);
    });
    const rounds = await Promise.all([asLedger(make), asLedger(make), asLedger(make)]);
    assert.equal(
      rounds.reduce((sum, { made }) => sum + made, 0),
      4 * TABLES.length,
    );
    assert.equal(
      rounds.reduce((sum, { movedRows }) => sum + movedRows, 0),
      50 * TABLES.length,
    );
    await asSuperuser(async (db) => {
      assert.equal((await db.query("select from ledger.due_month_partitions()")).rowCount, 0);
      for (const table of TABLES) await db.query(`truncate ledger.${table}`);
    });
  }
});

test("somebody who holds on to a table is not waited for, and nobody queues behind", async () => {
  await asSuperuser(async (db) => {
    await unmakeMonth(db, 0, ["entries"]);
    const { date } = await monthAhead(db, 0);
    await insertRows(db, date, 1);
    const tryToMake = () =>
      asLedger(async (ledger) => {
        const { rows } = await ledger.query(
          "select outcome, moved_rows from ledger.make_due_month_partition('entries', $1)",
          [date],
        );
        return rows[0];
      });
    await asSuperuser(async (reader) => {
      await reader.query("begin; select from ledger.entries");
      const [outcome] = await Promise.all([tryToMake(), asLedger((ledger) => insertRows(ledger, "2025-02-01", 1))]);
      assert.deepEqual(outcome, { outcome: "busy", moved_rows: "0" });
      assert.equal(
        (await db.query("select to_regclass('ledger.entries_' || to_char(now(), 'YYYYMM')) as name")).rows[0].name,
        null,
      );
      await reader.query("rollback");
    });
    assert.deepEqual(await tryToMake(), { outcome: "created", moved_rows: "1" });
    await asLedger(make);
    for (const table of TABLES) await db.query(`truncate ledger.${table}; drop table ledger.${table}_202502`);
  });
});

test("a large default partition is left to an operator, whose command moves it", async () => {
  await asSuperuser(async (db) => {
    await unmakeMonth(db, 0, ["events"]);
    const { date } = await monthAhead(db, 0);
    await db.query(
      `insert into ledger.events select i, 0, 'x', 1, 'x', 1, (select string_agg(md5(i::text || j), '') from generate_series(1, 40) j),
              $1::timestamptz from generate_series(1, 4000) i`,
      [`${date}T00:00:00Z`],
    );
    assert.deepEqual(await asLedger(make), { made: 0, movedRows: 0, busy: 0, tooLarge: 1 });
    const { rows } = await db.query("select * from ledger.make_month_partition('events', $1, 1e9::bigint)", [date]);
    assert.deepEqual(rows, [{ outcome: "created", moved_rows: "4000" }]);
    await db.query("truncate ledger.events");
    assert.deepEqual(await asLedger(make), { made: 0, movedRows: 0, busy: 0, tooLarge: 0 });
  });
});

test("the ledger may make the partitions that are due, and change no table otherwise", async () => {
  const tables =
    "select array_agg(oid::regclass::text order by 1) from pg_class where relnamespace = 'ledger'::regnamespace";
  await asSuperuser(async (db) => {
    const before = (await db.query(tables)).rows;
    await asLedger(async (ledger) => {
      for (const [parent, month] of [
        ["entries", "1999-01-01"],
        ["accounts", "2026-01-01"],
        ["entries; drop table ledger.accounts", "2026-01-01"],
      ]) {
        const { rows } = await ledger.query("select * from ledger.make_due_month_partition($1, $2)", [parent, month]);
        assert.deepEqual(rows, [{ outcome: "exists", moved_rows: "0" }]);
      }
      for (const statement of [
        "select ledger.make_month_partition('entries', '1999-01-01')",
        "create table ledger.entries_209901 (like ledger.entries)",
        "create table ledger.entries_209901 partition of ledger.entries for values from ('2099-01-01') to ('2099-02-01')",
        "drop table ledger.entries_default",
        "delete from ledger.entries_default",
      ]) {
        await assert.rejects(ledger.query(statement), { code: "42501" }, statement);
      }
    });
    assert.deepEqual((await db.query(tables)).rows, before);
  });
});

test("keys go when their retention is over, the oldest first, and those of unfinished transfers stay", async () => {
  await asSuperuser(async (db) => {
    await db.query(
      `insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id, created_at)
       select i % 4096, 'expiry', 'm', i::text, '', overlay(gen_random_uuid()::text placing '00000000-0000' from 1 for 13)::uuid,
              now() - case when i <= 2500 then interval '30 days 1 minute' else interval '29 days 23 hours' end
         from generate_series(1, 3000) i`,
    );
    const states = ["COMMITTED", "CLOSED", "ABORTED"];
    for (const [index, state] of states.entries()) {
      await db.query(
        `insert into ledger.decisions (transfer_id, bucket, state, decided_at)
         select resource_id, bucket, $2, created_at from ledger.idempotency_keys where key::int in ($1::int, $1::int + 2600)`,
        [index + 1, state],
      );
    }
    const [one, two] = await Promise.all([asLedger((ledger) => expire(ledger)), asLedger((ledger) => expire(ledger))]);
    assert.equal(one.keys + two.keys, 2_499);
    assert.equal(one.decisions + two.decisions, 2);
    const left = await db.query(
      `select count(*)::int as keys, count(*) filter (where created_at < now() - interval '30 days')::int as old,
              min(key::int) as first from ledger.idempotency_keys where caller = 'expiry'`,
    );
    assert.deepEqual(left.rows, [{ keys: 501, old: 1, first: 1 }]);
    const { rows } = await db.query("select state from ledger.decisions order by state, decided_at");
    assert.deepEqual(
      rows.map(({ state }) => state),
      ["ABORTED", "CLOSED", "COMMITTED", "COMMITTED"],
    );
    // Finished at last, both go.
    await db.query("update ledger.decisions set state = 'CLOSED'");
    assert.deepEqual(await asLedger((ledger) => expire(ledger)), { keys: 1, decisions: 1 });
    await db.query("delete from ledger.idempotency_keys; delete from ledger.decisions");
  });
});

test("a key that a transaction has locked is left for later, and not waited for", async () => {
  await asSuperuser(async (db) => {
    await db.query(
      `insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id, created_at)
       select i, 'locked', 'm', 'k', '', gen_random_uuid(), now() - interval '40 days' from generate_series(1, 2) i`,
    );
    await asSuperuser(async (other) => {
      await other.query("begin; select from ledger.idempotency_keys where bucket = 1 and caller = 'locked' for update");
      assert.equal((await asLedger((ledger) => expire(ledger))).keys, 1);
      await other.query("rollback");
    });
    assert.equal((await asLedger((ledger) => expire(ledger))).keys, 1);
  });
});

async function openWallet(client: LedgerServiceClient): Promise<string> {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newId("user", 1),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  return (await call(client, client.createAccount, request)).response.accountId;
}

/** A ledger on the scratch database, under load: transfers, each said twice, one after the other by each caller. */
function startLoad(ledger: LedgerProcess, callers: number) {
  const { client } = ledger;
  let going = true;
  let made = 0;
  const failed: unknown[] = [];
  async function caller(): Promise<void> {
    const account = await openWallet(client);
    while (going) {
      const request = transferRequest("system:cash", account, 1n);
      try {
        const first = await call(client, client.createTransfer, request);
        const again: Answer<Transfer> = await call(client, client.createTransfer, request);
        assert.deepEqual([again.response.transferId, again.replayed], [first.response.transferId, true]);
        assert.equal(first.response.balances.length, 2);
        made += 1;
      } catch (error) {
        failed.push(error);
      }
    }
  }
  const running = Promise.all(Array.from({ length: callers }, caller));
  return {
    made: () => made,
    failed,
    async stop() {
      going = false;
      await running;
    },
  };
}

test("no payment fails while partitions of the month in use are missing, made and filled", async () => {
  // The month is missing from the start: the process's own worker makes it while payments come in.
  await asSuperuser((db) => unmakeMonth(db, 0));
  const ledger = await startLedger(GRPC_PORT, [scratch.ledger]);
  const load = startLoad(ledger, LOAD_CALLERS);
  let reading = true;
  // Planned anew each time: a plan that was made while a partition came must not miss what moved.
  const reads = asLedger(async (reader) => {
    for (let known = 0; reading; ) {
      const { rows } = await reader.query<{ count: number }>("select count(*)::int from ledger.transfers");
      const count = rows[0]?.count ?? 0;
      if (count < known) return `${count} transfers were seen after ${known}`;
      known = count;
    }
    return "none was missed";
  });
  try {
    await asSuperuser(async (db) => {
      for (let round = 0; round < LOAD_ROUNDS; round += 1) {
        await eventually(() => load.made() >= (round + 1) * LOAD_TRANSFERS_PER_ROUND, "payments go on");
        if (round > 0) await unmakeMonth(db, 0);
        await eventually(async () => {
          const { rows: due } = await db.query("select parent, month from ledger.due_month_partitions()");
          // Later by the operator's command, since the default partitions grow beyond what the worker moves.
          for (const { parent, month } of round === 0 ? [] : due) {
            await db.query("select from ledger.make_month_partition($1, $2, 1e9::bigint)", [parent, month]);
          }
          return due.length === 0;
        }, "the month has its partitions");
      }
      const before = load.made();
      await eventually(() => load.made() > before + LOAD_TRANSFERS_PER_ROUND, "payments go on");
      await load.stop();
      reading = false;
      assert.deepEqual(load.failed, []);
      assert.equal(await reads, "none was missed");

      const { rows } = await db.query(
        `select (select count(*)::int from ledger.transfers) as transfers,
                (select count(*)::int from ledger.entries) as entries,
                (select sum(amount_minor_units)::int from ledger.entries where amount_minor_units > 0) as credited,
                (select count(*)::int from ledger.events where type = 'transfer_posted') as events,
                (select max(number) - count(*) from ledger.events)::int as gaps,
                (select count(*)::int from ledger.entries_default) + (select count(*)::int from ledger.transfers_default)
                  + (select count(*)::int from ledger.events_default) as fallen`,
      );
      const made = load.made();
      assert.deepEqual(rows, [
        { transfers: made, entries: 2 * made, credited: made, events: made, gaps: 0, fallen: 0 },
      ]);
    });
  } finally {
    reading = false;
    await Promise.allSettled([reads, load.stop()]);
    ledger.signal("SIGKILL");
  }
});

const LOAD_CALLERS = 1;
const LOAD_ROUNDS = 5;
const LOAD_TRANSFERS_PER_ROUND = 20;

test("a key whose retention is over makes a new transfer", async () => {
  const ledger = await startLedger(GRPC_PORT, [scratch.ledger]);
  try {
    const { client } = ledger;
    const request = transferRequest("system:cash", await openWallet(client), 1n);
    const first = await call(client, client.createTransfer, request);
    const age = (days: string) =>
      asSuperuser((db) =>
        db.query("update ledger.idempotency_keys set created_at = now() - $2::interval where key = $1", [
          request.idempotencyKey,
          days,
        ]),
      );
    await age("29 days 23 hours");
    await asLedger((db) => expire(db));
    const replayed = await call(client, client.createTransfer, request);
    assert.deepEqual([replayed.response.transferId, replayed.replayed], [first.response.transferId, true]);
    await age("30 days 1 hour");
    await asLedger((db) => expire(db));
    const second = await call(client, client.createTransfer, request);
    assert.equal(second.replayed, false);
    assert.notEqual(second.response.transferId, first.response.transferId);
  } finally {
    ledger.signal("SIGKILL");
  }
});

test("the identity log has its months made ahead too, and rows of a month without one are moved", async () => {
  await asSuperuser(async (db) => {
    const { suffix, date } = await monthAhead(db, 1);
    const where = () =>
      db.query(
        "select tableoid::regclass::text as name, count(*)::int as rows from identity.events group by 1 order by 1",
      );
    await db.query(`begin; lock table only identity.events in access exclusive mode;
      alter table identity.events detach partition identity.events_${suffix}; drop table identity.events_${suffix}; commit`);
    await db.query(
      `insert into identity.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
       select i, 0, 'x', 1, 'x', 1, '{}', $1::timestamptz + make_interval(mins => i) from generate_series(1, 50) i`,
      [`${date}T00:00:00Z`],
    );
    assert.deepEqual((await where()).rows, [{ name: "identity.events_default", rows: 50 }]);
    assert.deepEqual(await asLedger(make), { made: 1, movedRows: 50, busy: 0, tooLarge: 0 });
    assert.deepEqual((await where()).rows, [{ name: `identity.events_${suffix}`, rows: 50 }]);
    await db.query("truncate identity.events");
  });
});
