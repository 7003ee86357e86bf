import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { Client } from "pg";
import { migrationEnvironment } from "#infra/local/endpoints.ts";
import { rolePassword } from "#infra/local/secrets.ts";
import { postgres, stack, stackName } from "#tests/stack.ts";

export interface ScratchDatabase {
  /** Connection strings as superuser and as the ledger. */
  readonly superuser: string;
  readonly ledger: string;
  drop(): Promise<void>;
}

/** A database of its own on the Postgres of shard 1, set up by the migrations as the only shard of a system. */
export async function scratchDatabase(): Promise<ScratchDatabase> {
  const [database] = await scratchShards([0]);
  return database as ScratchDatabase;
}

/**
 * A system of several shards, each a database of its own on the Postgres of shard 1, whose clocks differ from the machine's by
 * so many seconds.
 */
export async function scratchShards(clockShiftsSeconds: readonly number[]): Promise<ScratchDatabase[]> {
  const databases = await Promise.all(clockShiftsSeconds.map(emptyDatabase));
  const urls = databases.map(({ superuser }) => superuser);
  await promisify(execFile)(process.execPath, ["infra/postgres/migrate.ts"], {
    env: { ...migrationEnvironment(stackName), LEDGERMESH_MIGRATE_SHARDS: urls.join(",") },
  });
  return databases;
}

async function emptyDatabase(clockShiftSeconds: number): Promise<ScratchDatabase> {
  const name = `scratch_${randomBytes(6).toString("hex")}`;
  await postgres(1).query(`create database ${name}`);
  const url = new URL(stack.shards[0] as string);
  url.pathname = `/${name}`;
  const superuser = url.href;
  if (clockShiftSeconds !== 0) {
    await withConnection(superuser, (db) => db.query(SHIFTED_CLOCK.replaceAll("SECONDS", String(clockShiftSeconds))));
    await postgres(1).query(`alter database ${name} set search_path = shifted, pg_catalog, public`);
  }
  url.username = "ledger";
  url.password = rolePassword(stackName, "ledger");
  return {
    superuser,
    ledger: url.href,
    async drop() {
      // A pool of another process may be connected to it still.
      await postgres(1).query(`drop database ${name} with (force)`);
    },
  };
}

/** Found before Postgres' own, by whatever names them without a schema. */
const SHIFTED_CLOCK = `
  create schema shifted;
  grant usage on schema shifted to public;
  create function shifted.clock_timestamp() returns timestamptz language sql volatile
    return pg_catalog.clock_timestamp() + make_interval(secs => SECONDS);
  create function shifted.now() returns timestamptz language sql stable
    return pg_catalog.now() + make_interval(secs => SECONDS);`;

/** A connection that ends with `use`. */
export async function withConnection<Value>(url: string, use: (db: Client) => Promise<Value>): Promise<Value> {
  const db = new Client({ connectionString: url });
  await db.connect();
  try {
    return await use(db);
  } finally {
    await db.end();
  }
}
