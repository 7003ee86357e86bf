import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Client } from "pg";
import { migrationEnvironment } from "#infra/local/endpoints.ts";
import { rolePassword } from "#infra/local/secrets.ts";
import { withConnection } from "#tests/scratch-database.ts";
import { newKey, postgres, shardNumbers, stack, stackName } from "#tests/stack.ts";

/** A system of a test's own: a database on each of the stack's Postgres servers, which no service of the stack knows. */
export interface ScratchSystem {
  /** Connection strings of all shards, shard 1 first. */
  readonly urlsOf: (role: "superuser" | "ledger" | "auditor") => readonly string[];
  /** Remembers all rows as they are now. */
  readonly keep: () => Promise<void>;
  /** Changes rows of a shard as a superuser whom nothing stops, until `use` has ended. */
  readonly spoiled: (shard: number, sql: string, use: () => Promise<void>) => Promise<void>;
  readonly drop: () => Promise<void>;
}

/** Sets the databases up by the migrations. */
export async function scratchSystem(): Promise<ScratchSystem> {
  const name = `scratch_${newKey()}`;
  const urlOf = (shard: number, role: "superuser" | "ledger" | "auditor") => {
    const url = new URL(stack.shards[shard - 1] as string);
    url.pathname = `/${name}`;
    if (role !== "superuser") [url.username, url.password] = [role, rolePassword(stackName, role)];
    return url.href;
  };
  await Promise.all(shardNumbers.map((shard) => postgres(shard).query(`create database ${name}`)));
  await promisify(execFile)(process.execPath, ["infra/postgres/migrate.ts"], {
    env: {
      ...migrationEnvironment(stackName),
      LEDGERMESH_MIGRATE_SHARDS: shardNumbers.map((shard) => urlOf(shard, "superuser")).join(","),
    },
  });
  const asSuperuser = <Value>(shard: number, use: (db: Client) => Promise<Value>) =>
    withConnection(urlOf(shard, "superuser"), use);
  return {
    urlsOf: (role) => shardNumbers.map((shard) => urlOf(shard, role)),
    async keep() {
      await Promise.all(shardNumbers.map((shard) => asSuperuser(shard, keepRows)));
    },
    async spoiled(shard, sql, use) {
      // Neither triggers nor foreign keys hold.
      await asSuperuser(shard, (db) => db.query(`set session_replication_role = replica; ${sql}`));
      try {
        await use();
      } finally {
        await asSuperuser(shard, restoreRows);
      }
    },
    async drop() {
      await Promise.all(shardNumbers.map((shard) => postgres(shard).query(`drop database ${name} with (force)`)));
    },
  };
}

/** Each table of ours with its columns, those that Postgres computes aside. */
async function tablesOf(db: Client): Promise<{ schema: string; table: string; columns: string }[]> {
  const { rows } = await db.query(
    `select n.nspname as schema, c.relname as table, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      where n.nspname in ('ledger', 'relay') and c.relkind in ('r', 'p') and not c.relispartition
      group by n.nspname, c.relname`,
  );
  return rows;
}

async function keepRows(db: Client): Promise<void> {
  const tables = await tablesOf(db);
  const copies = tables.map(({ schema, table, columns }) => {
    return `create table kept.${schema}_${table} as select ${columns} from ${schema}.${table}`;
  });
  await db.query(["create schema kept", ...copies].join("; "));
}

async function restoreRows(db: Client): Promise<void> {
  const tables = await tablesOf(db);
  const restored = tables.map(({ schema, table, columns }) => {
    return `delete from ${schema}.${table};
            insert into ${schema}.${table} (${columns}) select ${columns} from kept.${schema}_${table}`;
  });
  await db.query(["begin", "set local session_replication_role = replica", ...restored, "commit"].join("; "));
}
