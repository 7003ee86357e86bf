import { globSync, readFileSync } from "node:fs";
import { runner } from "node-pg-migrate";
import { Client, escapeIdentifier, escapeLiteral } from "pg";
import { type MigrateConfig, migrateConfig } from "#infra/postgres/config.ts";
import { type BucketRange, evenBucketRanges, readBucketMap } from "#lib/shards.ts";

/**
 * Brings every shard to the newest schema: roles, migrations (recorded on each shard in `public.migrations`), functions
 * (`*.sql` beside their callers, re-applied each time), the shard's number and bucket map, partitions ahead.
 * Safe to repeat and safe when two run at once: the second waits for the first on each shard.
 */
const MIGRATIONS_FOLDER = "infra/postgres/migrations";
const FUNCTION_FILES = ["infra/postgres/*.sql", "services/*/*.sql"];
const MIGRATION_LOCK = 7_236_001;
const FIRST_MAP_VERSION = 1;

/** A stopped process must not hold locks: Postgres ends what takes longer. Reads of reports need no such role. */
const ROLES = {
  ledger: { idle_in_transaction_session_timeout: "5s", transaction_timeout: "10s" },
  relay: { idle_in_transaction_session_timeout: "5s", transaction_timeout: "30s" },
  projector: { idle_in_transaction_session_timeout: "5s", transaction_timeout: "30s" },
  reporting: { idle_in_transaction_session_timeout: "5s", transaction_timeout: "30s" },
  identity: { idle_in_transaction_session_timeout: "5s", transaction_timeout: "10s" },
  // Audits read page by page; what takes longer would keep the ledger's old rows from being cleared away.
  auditor: {
    default_transaction_read_only: "on",
    idle_in_transaction_session_timeout: "30s",
    transaction_timeout: "5min",
  },
} as const;

async function migrateShard(shard: number, connectionString: string, config: MigrateConfig): Promise<void> {
  const db = new Client({ connectionString });
  await db.connect();
  try {
    await db.query("select pg_advisory_lock($1)", [MIGRATION_LOCK]);
    await db.query("begin");
    await applyRoles(db, config.passwordOf);
    await db.query("commit");
    const applied = await runner({
      dbClient: db,
      dir: MIGRATIONS_FOLDER,
      direction: "up",
      migrationsTable: "migrations",
      migrationsSchema: "public",
      checkOrder: true,
      singleTransaction: true,
      noLock: true,
      log: () => {},
    });
    await db.query("begin");
    for (const file of globSync(FUNCTION_FILES)) await db.query(readFileSync(file, "utf8"));
    await registerShard(db, shard, evenBucketRanges(config.shards.length));
    await db.query("commit");
    await createPartitions(db);
    const names = applied.map(({ name }) => name).join(", ");
    process.stdout.write(`shard ${shard}: ${names === "" ? "up to date" : `applied ${names}`}\n`);
  } finally {
    await db.end();
  }
}

/** Each in a transaction of its own. What others keep busy is left to the ledger's worker. */
async function createPartitions(db: Client): Promise<void> {
  const { rows } = await db.query<{ parent: string; month: string }>(
    "select parent, month::text from ledger.due_month_partitions() order by month, parent",
  );
  for (const { parent, month } of rows) {
    await db.query("select from ledger.make_month_partition($1, $2)", [parent, month]);
  }
}

async function applyRoles(db: Client, passwordOf: (role: string) => string): Promise<void> {
  // Roles belong to the whole cluster, the migration lock to one database of it.
  await db.query("lock table pg_authid in share row exclusive mode");
  for (const [role, settings] of Object.entries(ROLES)) {
    const name = escapeIdentifier(role);
    const { rowCount } = await db.query("select from pg_roles where rolname = $1", [role]);
    if (rowCount === 0) await db.query(`create role ${name} login`);
    await db.query(`alter role ${name} password ${escapeLiteral(passwordOf(role))}`);
    for (const [setting, value] of Object.entries(settings)) {
      await db.query(`alter role ${name} set ${setting} = ${escapeLiteral(value)}`);
    }
  }
  await db.query("revoke create on schema public from public");
  // What an optimistic batch finds otherwise is no error (services/ledger/refuse-assumption.sql).
  await db.query("grant set on parameter log_min_messages to ledger");
}

/** Gives the database its shard number and the first bucket map. Throws when it is another shard already. */
async function registerShard(db: Client, shard: number, ranges: readonly BucketRange[]): Promise<void> {
  const { rowCount } = await db.query(
    "insert into ledger.shard_head (shard, map_version) values ($1, $2) on conflict do nothing",
    [shard, FIRST_MAP_VERSION],
  );
  if (rowCount === 1) {
    for (const { firstBucket, lastBucket, shard: owner } of ranges) {
      await db.query("insert into ledger.bucket_map values ($1, $2, $3, $4)", [
        FIRST_MAP_VERSION,
        firstBucket,
        lastBucket,
        owner,
      ]);
    }
    await db.query("insert into relay.cursor (shard) values ($1)", [shard]);
  }
  await db.query("insert into relay.identity_cursor (shard) values ($1) on conflict do nothing", [shard]);
  const known = await readBucketMap(db);
  if (known.shard !== shard) {
    throw new Error(
      `the database given as shard ${shard} is shard ${known.shard}: mend the order of LEDGERMESH_MIGRATE_SHARDS`,
    );
  }
  if (new Set(known.map.ranges.map((range) => range.shard)).size !== new Set(ranges.map((range) => range.shard)).size) {
    throw new Error(
      `shard ${shard} knows another number of shards: buckets are moved, not split anew (docs/decisions)`,
    );
  }
}

const config = migrateConfig();
const results = await Promise.allSettled(config.shards.map((url, index) => migrateShard(index + 1, url, config)));
for (const [index, result] of results.entries()) {
  if (result.status === "rejected") {
    process.stderr.write(`shard ${index + 1}: ${String(result.reason)}\n`);
    process.exitCode = 1;
  }
}
