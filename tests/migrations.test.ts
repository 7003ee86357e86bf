import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { basename } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { migrationEnvironment } from "#infra/local/endpoints.ts";
import { openAccount, postgres, stack, stackName, transfer } from "#tests/stack.ts";

const run = promisify(execFile);
const environment = migrationEnvironment(stackName);
const migrate = (more: Record<string, string> = {}) =>
  run(process.execPath, ["infra/postgres/migrate.ts"], { env: { ...environment, ...more } });

const SCHEMA = `
  select c.oid::regclass::text as name, c.relkind, pg_get_expr(c.relpartbound, c.oid) as partition
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('ledger', 'relay') order by 1`;

test("two runs at once change nothing that is there, and money moves on meanwhile", async () => {
  const before = await Promise.all(stack.shards.map((_, index) => postgres(index + 1).query(SCHEMA)));
  const account = await openAccount();
  const runs = Promise.all([migrate(), migrate(), migrate()]);
  for (let count = 0; count < 20; count += 1) await transfer("system:cash", account.accountId, 1n);
  for (const { stdout } of await runs) assert.equal(stdout.match(/up to date/g)?.length, stack.shards.length);
  const after = await Promise.all(stack.shards.map((_, index) => postgres(index + 1).query(SCHEMA)));
  for (const [index, { rows }] of after.entries()) assert.deepEqual(rows, before[index]?.rows);
});

test("each shard records its own migrations, its number and the same bucket map", async () => {
  const maps: unknown[] = [];
  const migrations = globSync("infra/postgres/migrations/*.sql")
    .map((file) => ({ name: basename(file, ".sql") }))
    .sort((a, b) => a.name.localeCompare(b.name));
  for (const index of stack.shards.keys()) {
    const db = postgres(index + 1);
    assert.deepEqual((await db.query("select name from public.migrations order by name")).rows, migrations);
    assert.deepEqual((await db.query("select shard from ledger.shard_head")).rows, [{ shard: index + 1 }]);
    maps.push((await db.query("select * from ledger.bucket_map order by first_bucket")).rows);
  }
  for (const map of maps) assert.deepEqual(map, maps[0]);
});

test("a shard given in another's place, or another number of shards, is refused", async () => {
  const shards = environment.LEDGERMESH_MIGRATE_SHARDS?.split(",") ?? [];
  const swapped = { LEDGERMESH_MIGRATE_SHARDS: shards.toReversed().join(",") };
  await assert.rejects(migrate(swapped), (error: { code: number; stderr: string }) => {
    assert.equal(error.code, 1);
    assert.ok(error.stderr.includes(`the database given as shard 1 is shard ${shards.length}: mend the order`));
    return true;
  });
  const fewer = { LEDGERMESH_MIGRATE_SHARDS: shards[0] as string };
  await assert.rejects(migrate(fewer), (error: { stderr: string }) => /another number of shards/.test(error.stderr));
});

test("rows go to the partition of their month, and a month without one to the default", async () => {
  const account = await openAccount();
  await transfer("system:cash", account.accountId, 1n);
  const { rows } = await postgres(1).query<{ entries: string; transfers: string; events: string }>(
    `select (select e.tableoid::regclass::text from ledger.entries e join ledger.accounts a using (account_id) where a.owner_id = $1) as entries,
            (select t.tableoid::regclass::text from ledger.transfers t join ledger.entries e using (transfer_id) join ledger.accounts a using (account_id) where a.owner_id = $1) as transfers,
            (select v.tableoid::regclass::text from ledger.events v where v.number = (select max(number) from ledger.events)) as events`,
    [account.ownerId],
  );
  const month = new Date().toISOString().slice(0, 7).replace("-", "");
  assert.deepEqual(rows, [
    { entries: `ledger.entries_${month}`, transfers: `ledger.transfers_${month}`, events: `ledger.events_${month}` },
  ]);
  const client = await postgres(1).connect();
  await client.query("begin");
  const { rows: last } = await client.query(
    `insert into ledger.events values (0, 0, 'x', 1, 'x', 1, '{}', '2099-01-01') returning tableoid::regclass::text as name`,
  );
  await client.query("rollback");
  client.release();
  assert.deepEqual(last, [{ name: "ledger.events_default" }]);
});

test("no service may change what was written, and only the ledger may write it", async () => {
  const { rows } = await postgres(1).query<{ role: string; name: string; privilege: string }>(
    `select r.role, c.oid::regclass::text as name, p.privilege
       from unnest(array['ledger', 'relay', 'projector', 'reporting', 'auditor']) r (role)
      cross join unnest(array['UPDATE', 'DELETE', 'TRUNCATE', 'INSERT']) p (privilege)
      cross join pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'ledger' and c.relkind in ('r', 'p')
        and (c.relname ~ '^(entries|transfers|events)')
        and has_table_privilege(r.role, c.oid, p.privilege)`,
  );
  assert.deepEqual(
    rows.filter(({ role, privilege }) => role !== "ledger" || privilege !== "INSERT"),
    [],
  );
  assert.ok(rows.length >= 3);
  const { rows: columns } = await postgres(1).query<{ name: string }>(
    `select r.role || ' ' || a.attname as name
       from unnest(array['ledger', 'relay', 'projector', 'reporting', 'auditor']) r (role)
      cross join pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'ledger' and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
        and (c.relname ~ '^(entries|transfers|events)')
        and has_column_privilege(r.role, c.oid, a.attnum, 'UPDATE') order by 1`,
  );
  // Whether a transfer is taken back; never what it moved.
  assert.deepEqual(
    columns.map(({ name }) => name),
    ["ledger reversed_postings", "ledger state"],
  );
});
