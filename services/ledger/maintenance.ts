import type { Client, ClientBase } from "pg";
import { Counter, Gauge } from "prom-client";
import { pause } from "#lib/back-off.ts";
import type { Logger } from "#lib/log.ts";
import type { Shard } from "#services/ledger/shard.ts";

/**
 * Housekeeping of the shards (docs/maintenance.md): makes the coming months' partitions, and deletes idempotency keys whose
 * retention is over. Every ledger process does it for every shard: the SQL functions let one work at a time, and what is
 * done already is found done. Nothing here is needed for a payment, and nothing here may make one fail.
 */
const FIRST_ROUND_MS = 2_000;
const ROUND_MS = 60_000;
const PARTITIONS_EVERY_MS = 60 * 60_000;
/** Partitions of a round; a new system needs four months of each table. What is left is made in the next round. */
const MAX_PARTITIONS_PER_ROUND = 40;
/** Within a round, before a busy partition is left to the next. */
const MAX_TRIES_OF_A_PARTITION = 5;
const PAUSE_BEFORE_RETRY_MS = 500;
/** A batch of deletions takes some 30 ms; at most 180,000 a minute: more than a shard takes in for long. */
const KEYS_PER_BATCH = 1_000;
const KEY_BATCHES_PER_ROUND = 180;
const PAUSE_BETWEEN_KEY_BATCHES_MS = 100;
/** What a statement here may take, whatever happens; the largest move that is tried takes half a second. */
const STATEMENT_TIMEOUT = "3s";
/** Months made ahead, as in `ledger.due_month_partitions`. */
const MONTHS_AHEAD = 3;

const partitionsMade = new Counter({
  name: "ledger_month_partitions_made_total",
  help: "Month partitions made by this process.",
  labelNames: ["shard"],
});
const rowsMoved = new Counter({
  name: "ledger_month_partition_rows_moved_total",
  help: "Rows moved from a default partition into the partition of their month.",
  labelNames: ["shard"],
});
const monthsAhead = new Gauge({
  name: "ledger_month_partitions_ahead",
  help: "Months ahead for which every table has its partition; below 2 is worth a look.",
  labelNames: ["shard"],
});
const partitionsDue = new Gauge({
  name: "ledger_month_partitions_due",
  help: "Month partitions that are missing and could not be made in the last round.",
  labelNames: ["shard"],
});
const keysExpired = new Counter({
  name: "ledger_idempotency_keys_expired_total",
  help: "Idempotency keys deleted by this process, their retention being over.",
  labelNames: ["shard"],
});
const oldestKey = new Gauge({
  name: "ledger_oldest_idempotency_key_seconds",
  help: "Age of the oldest idempotency key; well above the retention, the deletion does not keep up.",
  labelNames: ["shard"],
});

/** Works on every shard until the signal aborts. `keyRetentionDays` is how long a key answers a repeated call. */
export async function maintain(
  shards: readonly { readonly shard: Shard }[],
  keyRetentionDays: number,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(
    shards.map(({ shard }) => maintainShard(shard, keyRetentionDays, log.child({ shard: shard.number }), signal)),
  );
}

async function maintainShard(shard: Shard, keyRetentionDays: number, log: Logger, signal: AbortSignal): Promise<void> {
  const writer = shard.openWriter();
  let partitionsDueAtMs = 0;
  await pause(FIRST_ROUND_MS, signal);
  while (!signal.aborted) {
    let db: Client | undefined;
    try {
      db = await writer.connection();
      await db.query(`set statement_timeout = '${STATEMENT_TIMEOUT}'`);
      if (performance.now() >= partitionsDueAtMs) {
        const { busy } = await makePartitions(db, shard.number, log, signal);
        if (busy === 0) partitionsDueAtMs = performance.now() + PARTITIONS_EVERY_MS;
      }
      await expireKeys(db, shard.number, keyRetentionDays, log, signal);
    } catch (error) {
      if (!signal.aborted) log.warn({ error: String(error) }, "housekeeping was interrupted: again in a minute");
    } finally {
      // A connection that is idle for a minute is not worth keeping.
      if (db !== undefined) writer.discard(db);
    }
    await pause(ROUND_MS, signal);
  }
}

interface DuePartition {
  readonly parent: string;
  /** Its first day. */
  readonly month: string;
  readonly months_ahead: number;
}

interface PartitionRound {
  readonly made: number;
  readonly movedRows: number;
  /** Left because others held locks. */
  readonly busy: number;
  /** Left to an operator. */
  readonly tooLarge: number;
}

/** Makes the month partitions that are due, each in a transaction of its own. */
export async function makePartitions(
  db: ClientBase,
  shard: number,
  log: Logger,
  signal: AbortSignal,
): Promise<PartitionRound> {
  const round = { made: 0, movedRows: 0, busy: 0, tooLarge: 0 };
  const due = await duePartitions(db);
  for (const partition of due.slice(0, MAX_PARTITIONS_PER_ROUND)) {
    if (signal.aborted) break;
    const { outcome, movedRows } = await makePartition(db, partition, signal);
    switch (outcome) {
      case "created":
        round.made += 1;
        round.movedRows += movedRows;
        log.info({ ...partition, movedRows }, "made a month partition");
        break;
      case "exists":
        break;
      case "busy":
        round.busy += 1;
        break;
      case "default_too_large":
        round.tooLarge += 1;
        log.warn(partition, "the default partition is too large to be split at work: see docs/maintenance.md");
        break;
    }
  }
  if (round.busy > 0) log.warn({ busy: round.busy }, "month partitions were busy: again in a minute");
  const left = due.length === 0 ? due : await duePartitions(db);
  partitionsMade.inc({ shard }, round.made);
  rowsMoved.inc({ shard }, round.movedRows);
  partitionsDue.set({ shard }, left.length);
  const firstMissing = left.filter(({ months_ahead }) => months_ahead > 0).map(({ months_ahead }) => months_ahead);
  monthsAhead.set({ shard }, Math.min(MONTHS_AHEAD, ...firstMissing.map((ahead) => ahead - 1)));
  return round;
}

async function duePartitions(db: ClientBase): Promise<DuePartition[]> {
  const { rows } = await db.query<DuePartition>(
    "select parent, month::text, months_ahead from ledger.due_month_partitions() order by month, parent",
  );
  return rows;
}

async function makePartition(db: ClientBase, { parent, month }: DuePartition, signal: AbortSignal) {
  for (let tries = 1; ; tries += 1) {
    const { rows } = await db.query<{ outcome: PartitionOutcome; moved_rows: string }>(
      "select outcome, moved_rows from ledger.make_due_month_partition($1, $2)",
      [parent, month],
    );
    const [made] = rows;
    if (made === undefined) throw new Error(`no outcome for the partition of ${parent} for ${month}`);
    if (made.outcome !== "busy" || tries === MAX_TRIES_OF_A_PARTITION || signal.aborted) {
      return { outcome: made.outcome, movedRows: Number(made.moved_rows) };
    }
    await pause(PAUSE_BEFORE_RETRY_MS, signal);
  }
}

/** As `ledger.make_month_partition` says. */
type PartitionOutcome = "created" | "exists" | "busy" | "default_too_large";

/** Deletes idempotency keys whose retention is over, in small batches with pauses; answers how many. */
export async function expireKeys(
  db: ClientBase,
  shard: number,
  retentionDays: number,
  log: Logger,
  signal: AbortSignal,
): Promise<{ keys: number; decisions: number }> {
  const expired = { keys: 0, decisions: 0 };
  for (let batch = 0; batch < KEY_BATCHES_PER_ROUND && !signal.aborted; batch += 1) {
    if (batch > 0) await pause(PAUSE_BETWEEN_KEY_BATCHES_MS, signal);
    const { rows } = await db.query<{ expired_keys: string; expired_decisions: string }>(
      "select expired_keys, expired_decisions from ledger.expire_keys($1, $2)",
      [retentionDays, KEYS_PER_BATCH],
    );
    const keys = Number(rows[0]?.expired_keys);
    const decisions = Number(rows[0]?.expired_decisions);
    expired.keys += keys;
    expired.decisions += decisions;
    if (keys < KEYS_PER_BATCH && decisions < KEYS_PER_BATCH) break;
  }
  keysExpired.inc({ shard }, expired.keys);
  const { rows } = await db.query<{ seconds: number }>(
    `select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as seconds from ledger.idempotency_keys`,
  );
  oldestKey.set({ shard }, rows[0]?.seconds ?? 0);
  if (expired.keys + expired.decisions > 0) {
    log.info({ ...expired, retentionDays }, "deleted what was kept for repeated calls, its retention being over");
  }
  return expired;
}
