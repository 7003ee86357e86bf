import { DatabaseError, Pool, type PoolClient } from "pg";
import type { Logger } from "#lib/log.ts";
import { Defect, Refusal } from "#lib/refusal.ts";
import { refusals } from "#services/identity/refusals.ts";

/** The identity service's connections to one shard, and what becomes of a statement that fails. */
const CONNECT_TIMEOUT_MS = 2_000;
const STATEMENT_TIMEOUT_MS = 4_000;
const MAX_CONNECTIONS = 8;
/** A transaction that Postgres ended for another's sake is tried again. */
const MAX_TRIES = 3;

export interface Shard {
  /** 1, 2, 3 … */
  readonly number: number;
  /** Whether it answered when it was last asked. */
  reachable(): boolean;
  /** Rows of one statement that writes nothing. Throws SHARD_UNAVAILABLE. */
  read<Row extends object>(text: string, values: readonly unknown[]): Promise<Row[]>;
  /**
   * Several statements, all or nothing: what `work` throws undoes them. `work` may run more than once, so it does nothing but
   * SQL. Throws SHARD_UNAVAILABLE or SHARD_CONTENDED when nothing has happened, OUTCOME_UNKNOWN when the answer to the commit
   * was lost.
   */
  transact<Value>(work: (db: PoolClient) => Promise<Value>): Promise<Value>;
  close(): Promise<void>;
}

export function openShard(number: number, connectionString: string, log: Logger): Shard {
  const pool = new Pool({
    connectionString,
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS,
  });
  pool.on("error", (error) => log.warn({ shard: number, error: error.message }, "a connection was lost"));
  let reachable = true;

  async function connect(): Promise<PoolClient> {
    try {
      const db = await pool.connect();
      reachable = true;
      return db;
    } catch (error) {
      reachable = false;
      log.warn({ shard: number, error: String(error) }, "the shard does not answer");
      throw refusals.shardUnavailable(number);
    }
  }

  async function tryTransaction<Value>(work: (db: PoolClient) => Promise<Value>): Promise<Value | typeof AGAIN> {
    const db = await connect();
    let committing = false;
    try {
      await db.query("begin");
      const value = await work(db);
      committing = true;
      await db.query("commit");
      db.release();
      return value;
    } catch (error) {
      if (isConnectionLost(error)) {
        db.release(true);
        log.warn({ shard: number, error: String(error) }, "a transaction was cut off");
        throw committing ? refusals.outcomeUnknown(number) : refusals.shardUnavailable(number);
      }
      await db.query("rollback").then(
        () => db.release(),
        () => db.release(true),
      );
      if (isContended(error)) return AGAIN;
      throw error;
    }
  }

  return {
    number,
    reachable: () => reachable,
    async read<Row extends object>(text: string, values: readonly unknown[]): Promise<Row[]> {
      const db = await connect();
      try {
        const { rows } = await db.query<Row>(text, [...values]);
        db.release();
        return rows;
      } catch (error) {
        const lost = isConnectionLost(error);
        db.release(lost);
        if (!lost) throw error;
        log.warn({ shard: number, error: String(error) }, "a read was cut off");
        throw refusals.shardUnavailable(number);
      }
    },
    async transact<Value>(work: (db: PoolClient) => Promise<Value>): Promise<Value> {
      for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
        const value = await tryTransaction(work);
        if (value !== AGAIN) return value;
      }
      throw refusals.shardContended(number);
    },
    close: () => pool.end(),
  };
}

const AGAIN = Symbol("again");

/** SQLSTATE classes that end the session: connection exceptions, operator intervention, idle or transaction time-outs. */
const SESSION_ENDED = /^(08|57P|25P03|25P04)/;
/** Ours, or a bug: Postgres and the network have nothing to do with it. */
const OF_THE_CODE = [Refusal, Defect, TypeError, RangeError, ReferenceError, SyntaxError];

function isConnectionLost(error: unknown): boolean {
  if (error instanceof DatabaseError) return SESSION_ENDED.test(error.code ?? "08");
  return !OF_THE_CODE.some((kind) => error instanceof kind);
}

/** A deadlock, or a serialization failure: nothing of it has happened. */
function isContended(error: unknown): boolean {
  return error instanceof DatabaseError && (error.code === "40P01" || error.code === "40001");
}
