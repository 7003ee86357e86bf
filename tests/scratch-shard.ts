import { after } from "node:test";
import { runner } from "node-pg-migrate";
import { Client } from "pg";
import { newKey, postgres, stack } from "#tests/stack.ts";

/**
 * A shard of a test's own: an empty database with all migrations in the cluster of shard 1, which no service knows, for
 * tests that must spoil things. It is dropped with the test's process.
 */
export interface ScratchShard {
  /** Opens a connection as superuser. */
  readonly connect: () => Promise<Client>;
  /** Its connection string under another role. */
  readonly urlOf: (roleUrl: string) => string;
}

export async function scratchShard(shard = 1): Promise<ScratchShard> {
  const name = `scratch_${newKey()}`;
  const withDatabase = (connectionString: string) => {
    const url = new URL(connectionString);
    url.pathname = `/${name}`;
    return url.toString();
  };
  await postgres(1).query(`create database ${name}`);
  const clients: Client[] = [];
  after(async () => {
    await Promise.all(clients.map((client) => client.end()));
    await postgres(1).query(`drop database ${name} with (force)`);
  });
  const connect = async () => {
    const client = new Client({ connectionString: withDatabase(stack.shards[0] as string) });
    client.on("error", () => {});
    await client.connect();
    clients.push(client);
    return client;
  };
  const db = await connect();
  await runner({
    dbClient: db,
    dir: "infra/postgres/migrations",
    direction: "up",
    migrationsTable: "migrations",
    migrationsSchema: "public",
    singleTransaction: true,
    noLock: true,
    log: () => {},
  });
  await db.query("insert into ledger.shard_head (shard, map_version) values ($1, 1)", [shard]);
  await db.query("insert into ledger.bucket_map values (1, 0, 4095, $1)", [shard]);
  await db.query("insert into relay.cursor (shard) values ($1)", [shard]);
  await db.query("insert into relay.identity_cursor (shard) values ($1)", [shard]);
  return { connect, urlOf: withDatabase };
}

/** Writes so many further events to the log, as a ledger would number them. */
export async function writeEvents(db: Client, count: number): Promise<void> {
  await db.query("begin");
  const { rows } = await db.query<{ sequence: string }>(
    "update ledger.shard_head set sequence = sequence + $1 returning sequence",
    [count],
  );
  await db.query(
    `insert into ledger.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
     select n, n % 4096, 'xfer_' || n, 1, 'transfer_posted', 1, '{"memo":"payment ' || n || ' → ✓"}',
            timestamptz '2026-01-31 23:59:59.000Z' + n * interval '1 millisecond'
       from generate_series($1::bigint - $2 + 1, $1) n`,
    [rows[0]?.sequence, count],
  );
  await db.query("commit");
}
