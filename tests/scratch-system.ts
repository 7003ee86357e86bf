import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Client } from "pg";
import { migrationEnvironment } from "#infra/local/endpoints.ts";
import { rolePassword } from "#infra/local/secrets.ts";
import { newKey, postgres, shardNumbers, stack, stackName } from "#tests/stack.ts";

/** A system of a test's own: a database on each of the stack's Postgres servers, which no service of the stack knows. */
export interface ScratchSystem {
  /** Connection strings of all shards, shard 1 first. */
  readonly urlsOf: (role: "superuser" | "ledger" | "auditor") => readonly string[];
  /** A copy of one shard, changed by a superuser whom nothing stops; dropped by `drop`. The original must be at rest. */
  readonly spoil: (shard: number, sql: string) => Promise<Spoiled>;
  drop(): Promise<void>;
}

export interface Spoiled {
  /** As of the auditor: the copy in the place of its original. */
  readonly urls: readonly string[];
  drop(): Promise<void>;
}

/** Sets the databases up by the migrations. */
export async function scratchSystem(): Promise<ScratchSystem> {
  const name = `scratch_${newKey()}`;
  const urlOf = (shard: number, role: "superuser" | "ledger" | "auditor", database = name) => {
    const url = new URL(stack.shards[shard - 1] as string);
    url.pathname = `/${database}`;
    if (role !== "superuser") [url.username, url.password] = [role, rolePassword(stackName, role)];
    return url.href;
  };
  const drop = async (shard: number, database: string) => {
    await postgres(shard).query(`drop database if exists ${database} with (force)`);
  };
  await Promise.all(shardNumbers.map((shard) => postgres(shard).query(`create database ${name}`)));
  await promisify(execFile)(process.execPath, ["infra/postgres/migrate.ts"], {
    env: {
      ...migrationEnvironment(stackName),
      LEDGERMESH_MIGRATE_SHARDS: shardNumbers.map((shard) => urlOf(shard, "superuser")).join(","),
    },
  });
  return {
    urlsOf: (role) => shardNumbers.map((shard) => urlOf(shard, role)),
    async spoil(shard, sql) {
      const copy = `scratch_${newKey()}`;
      await postgres(shard).query(`create database ${copy} template ${name}`);
      const db = new Client({ connectionString: urlOf(shard, "superuser", copy) });
      await db.connect();
      // Neither triggers nor foreign keys hold.
      await db.query("set session_replication_role = replica");
      await db.query(sql);
      await db.end();
      return {
        urls: shardNumbers.map((number) => urlOf(number, "auditor", number === shard ? copy : name)),
        drop: () => drop(shard, copy),
      };
    },
    async drop() {
      await Promise.all(shardNumbers.map((shard) => drop(shard, name)));
    },
  };
}
