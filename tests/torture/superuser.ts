import { Client } from "pg";
import { stack } from "#tests/stack.ts";

/** Looking at a shard, and holding its rows, from outside. Everything is bounded: the shard may hang or go away. */

const CONNECT_TIMEOUT_MS = 2_000;
const QUERY_TIMEOUT_MS = 4_000;
const LOCK_TIMEOUT = "3s";

export type Rows = readonly Readonly<Record<string, unknown>>[];

/** One statement as superuser; undefined when the shard does not answer. */
export async function ask(shard: number, text: string, values: readonly unknown[] = []): Promise<Rows | undefined> {
  const db = await open(shard).catch(() => undefined);
  if (db === undefined) return undefined;
  try {
    return (await db.query(text, [...values])).rows;
  } catch {
    return undefined;
  } finally {
    void db.end().catch(() => {});
  }
}

/** A session of a service on a shard. */
export interface Session {
  readonly pid: number;
  /** The part whose session it is: the further ones say so in their application name. */
  readonly part: string;
}

/** How a further part's sessions are told from those of the stack's own. */
export const FURTHER = "-2";

/** A transaction from outside that holds locks. */
export interface Holder {
  /** Takes further locks; false when it cannot. */
  readonly take: (text: string, values?: readonly unknown[]) => Promise<boolean>;
  /** The sessions of a role that wait for this holder. */
  readonly waiting: (role: string) => Promise<readonly Session[]>;
  readonly release: () => Promise<void>;
}

/** Begins a transaction on a shard that holds the rows of a statement; undefined when it cannot. */
export async function hold(shard: number, text: string, values: readonly unknown[] = []): Promise<Holder | undefined> {
  const db = await open(shard).catch(() => undefined);
  if (db === undefined) return undefined;
  const take = async (statement: string, parameters: readonly unknown[] = []) => {
    try {
      const { rowCount } = await db.query(statement, [...parameters]);
      return rowCount !== null && rowCount > 0;
    } catch {
      return false;
    }
  };
  const release = () => db.end().catch(() => {});
  try {
    await db.query("begin");
    await db.query(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
    const { rows } = await db.query<{ pid: number }>("select pg_backend_pid() as pid");
    const pid = rows[0]?.pid;
    if (await take(text, values)) {
      return {
        take,
        release,
        async waiting(role) {
          const found = await ask(
            shard,
            `select pid, usename || case when application_name like '%' || $3 then $3 else '' end as part
               from pg_stat_activity where usename = $1 and $2 = any (pg_blocking_pids(pid))`,
            [role, pid, FURTHER],
          );
          return (found ?? []) as unknown as readonly Session[];
        },
      };
    }
  } catch {
    // The shard went away meanwhile.
  }
  await release();
  return undefined;
}

async function open(shard: number): Promise<Client> {
  const db = new Client({
    connectionString: stack.shards[shard - 1] as string,
    application_name: "torture",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
  });
  db.on("error", () => {});
  try {
    await db.connect();
  } catch (error) {
    void db.end().catch(() => {});
    throw error;
  }
  return db;
}
