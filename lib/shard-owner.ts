import { Client } from "pg";
import { BackOff, pause } from "#lib/back-off.ts";
import type { Logger } from "#lib/log.ts";

/**
 * Work on a shard that only one process at a time may do, however many run: its owner holds a session advisory lock on
 * the shard's Postgres, and works over the same connection, so that losing the lock and losing the shard are one thing.
 *
 *   connecting -> standby (another process has the lock) -> owner -> (any failure) -> connecting, after a back-off
 *
 * An owner that is stopped or hangs says nothing any more: then Postgres ends its session, and another takes over.
 *
 * A lock can be lost without its holder noticing at once (the server restarted). So whatever the owner moves it moves by
 * a condition too: see its callers.
 */
export interface Ownership {
  /** The connection that holds the lock. */
  readonly db: Client;
  /** Aborts when the connection is lost, or the process stops. */
  readonly signal: AbortSignal;
}

export interface ShardOwner {
  /** Undefined while the shard's Postgres is reached, as owner or as standby. */
  readonly notReady: () => string | undefined;
  /** Ends the work and gives the lock back. */
  readonly stop: () => Promise<void>;
}

/** Locks of these kinds never meet: the second half of the lock's key is the shard. */
/** By the log that is relayed. */
export const RELAY_LOCKS = { ledger: 7_236_002, identity: 7_236_005 } as const;
export const PROJECTOR_LOCK = 7_236_003;

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 3_000;
/** Work that went on for so long was healthy: what ended it is worth a quick new try. */
const HEALTHY_WORK_MS = 10_000;
/** How soon a standby takes over. A blocking lock call would be ended by the role's transaction_timeout. */
const STANDBY_POLL_MS = 500;
const CONNECT_TIMEOUT_MS = 5_000;
/** Longer than any statement of an owner takes; a server that went away without a word is noticed by it. */
const QUERY_TIMEOUT_MS = 20_000;
const HEARTBEAT_MS = 4_000;
/** A session without a sign of life is ended by the server, and so is one whose machine is gone. */
const SESSION_SETTINGS =
  "-c idle_session_timeout=15s -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3";
const GOODBYE_TIMEOUT_MS = 1_000;

/** Starts to compete for a shard; `work` runs while it is owned, until its signal aborts or it throws. */
export function ownShard(options: {
  readonly shard: number;
  readonly connectionString: string;
  readonly lock: number;
  /** Shown by Postgres. */
  readonly name: string;
  readonly log: Logger;
  readonly work: (ownership: Ownership) => Promise<void>;
}): ShardOwner {
  const { shard, connectionString, lock, name, work } = options;
  const log = options.log.child({ shard });
  const stopping = new AbortController();
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  let connected = false;

  async function connectAndWork(): Promise<void> {
    const lost = new AbortController();
    const signal = AbortSignal.any([stopping.signal, lost.signal]);
    const db = new Client({
      connectionString,
      application_name: name,
      options: SESSION_SETTINGS,
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
    });
    db.on("error", (error) => lost.abort(error));
    db.on("end", () => lost.abort(new Error("the connection to Postgres ended")));
    let heartbeat: NodeJS.Timeout | undefined;
    try {
      await db.connect();
      connected = true;
      heartbeat = setInterval(() => db.query("select").catch((error) => lost.abort(error)), HEARTBEAT_MS);
      if (!(await lockShard(db, signal))) return;
      log.info("owner of the shard");
      const startedAtMs = Date.now();
      try {
        await work({ db, signal });
      } finally {
        if (Date.now() - startedAtMs >= HEALTHY_WORK_MS) backOff.reset();
      }
    } finally {
      clearInterval(heartbeat);
      connected = false;
      await Promise.race([db.end().catch(() => {}), pause(GOODBYE_TIMEOUT_MS, new AbortController().signal)]);
    }
  }

  async function lockShard(db: Client, signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      const { rows } = await db.query<{ locked: boolean }>("select pg_try_advisory_lock($1, $2) as locked", [
        lock,
        shard,
      ]);
      if (rows[0]?.locked === true) return true;
      await pause(STANDBY_POLL_MS, signal);
    }
    return false;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await connectAndWork();
      } catch (error) {
        if (!stopping.signal.aborted) log.warn({ error: String(error) }, "the work on the shard was interrupted");
      }
      await backOff.wait(stopping.signal);
    }
  }

  const running = run();
  return {
    notReady: () => (connected ? undefined : `Postgres of shard ${shard} does not answer`),
    stop: async () => {
      stopping.abort();
      await running;
    },
  };
}
