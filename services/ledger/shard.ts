import { Client, DatabaseError, Pool, types } from "pg";
import type { Logger } from "#lib/log.ts";
import { Defect } from "#lib/refusal.ts";
import { type BucketMap, readBucketMap } from "#lib/shards.ts";

/**
 * The ledger's connections to one shard: one per writer, in pipeline mode (several statements in one round trip), and a pool
 * for reads. A connection that breaks is opened anew by whoever needs it next.
 */
const CONNECT_TIMEOUT_MS = 2_000;
const MAX_READ_CONNECTIONS = 8;
const MAX_LOOK_UP_CONNECTIONS = 2;
const READ_TIMEOUT_MS = 3_000;
const STATEMENT_TIMEOUT_MS = 8_000;
/** Plans must not depend on how large tables were when a statement was first planned: every lookup is by key. */
const PLANNER =
  "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan";

/** The connection broke: what was sent last may or may not have been done. */
export class ConnectionLost extends Error {}

export interface Writer {
  /** An open connection that has shown to be this shard with this bucket map. Throws ConnectionLost when there is none. */
  connection(): Promise<Client>;
  /** Forgets the connection, after an error; a newer one stays. */
  discard(broken: Client): void;
}

export interface Shard {
  readonly number: number;
  readonly map: BucketMap;
  readonly reads: Pool;
  /** For what batches need to know before they are decided: the reads of callers must not hold up payments. */
  readonly lookUps: Pool;
  /** Whether the last connection for writing came about. */
  reachable(): boolean;
  /** Each has a connection of its own. */
  openWriter(): Writer;
  close(): Promise<void>;
}

export function openShard(number: number, connectionString: string, map: BucketMap, log: Logger): Shard {
  const [reads, lookUps] = [openPool(MAX_READ_CONNECTIONS), openPool(MAX_LOOK_UP_CONNECTIONS)];
  const open = new Set<Client>();
  let reachable = true;

  function openPool(max: number): Pool {
    const pool = new Pool({
      connectionString,
      max,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: READ_TIMEOUT_MS,
      options: PLANNER,
    });
    pool.on("error", (error) => log.warn({ shard: number, error: error.message }, "a read connection was lost"));
    return pool;
  }

  async function connect(): Promise<Client> {
    const client = new Client({
      connectionString,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: STATEMENT_TIMEOUT_MS,
      options: PLANNER,
      pipeline: true,
    });
    // Without a listener a lost connection would end the process; the statement under way is rejected as well.
    client.on("error", (error) => log.warn({ shard: number, error: error.message }, "a write connection was lost"));
    try {
      await client.connect();
      await checkShard(client);
    } catch (error) {
      reachable = false;
      await client.end().catch(() => {});
      throw error;
    }
    reachable = true;
    open.add(client);
    return client;
  }

  async function checkShard(client: Client): Promise<void> {
    const known = await readBucketMap(client);
    if (known.shard !== number || known.map.version !== map.version) {
      throw new Error(
        `shard ${number}: the database says shard ${known.shard}, map ${known.map.version}; wanted map ${map.version}`,
      );
    }
  }

  return {
    number,
    reachable: () => reachable,
    map,
    reads,
    lookUps,
    openWriter() {
      let client: Client | undefined;
      let opening: Promise<Client> | undefined;
      const openClient = async () => {
        try {
          const opened = await connect();
          opened.once("end", () => {
            open.delete(opened);
            if (client === opened) client = undefined;
          });
          client = opened;
          return opened;
        } catch (error) {
          throw new ConnectionLost(String(error));
        } finally {
          opening = undefined;
        }
      };
      return {
        async connection() {
          if (client !== undefined) return client;
          // Two batches that need it at the same time get the same one.
          opening ??= openClient();
          return opening;
        },
        discard(broken) {
          if (client === broken) client = undefined;
          if (open.delete(broken)) void broken.end().catch(() => {});
        },
      };
    },
    async close() {
      await Promise.all([reads.end(), lookUps.end(), ...[...open].map((client) => client.end())]);
    },
  };
}

/** SQLSTATE classes that end the session: connection exceptions, operator intervention, idle or transaction time-outs. */
const SESSION_ENDED = /^(08|57P|25P03|25P04)/;

/** Whether an error is a defect in our own code, and nothing that Postgres or the network said. */
export function isDefect(error: unknown): boolean {
  return (
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof ReferenceError ||
    error instanceof Defect
  );
}

/** Whether an error says that the connection is gone, and so nothing of what became of the statement. */
export function isConnectionLost(error: unknown): boolean {
  return !(error instanceof DatabaseError) || SESSION_ENDED.test(error.code ?? "08");
}

/** Whether Postgres ended one of two transactions that waited for each other. Nothing of it has happened. */
export function isContended(error: unknown): boolean {
  return error instanceof DatabaseError && (error.code === "40P01" || error.code === "40001");
}

/**
 * Whether another transaction made the same row first, such as the decision on a transfer, which cannot be locked while it
 * is not there. Nothing of this one has happened.
 */
export function isOvertaken(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === "23505";
}

/** Raised by the functions that write when the bucket map is not the one that was evaluated with. */
export function isMapChanged(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === "LM001";
}

// int8 stays text unless a caller makes a BigInt of it: never a float.
types.setTypeParser(types.builtins.INT8, (text) => text);
