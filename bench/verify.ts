import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import type { Measurement } from "#bench/measurement.ts";

/** What must hold for figures to count: nothing lost, nothing doubled, nothing unpublished. */

const PUBLISHED_WITHIN_MS = 60_000;
const FINISHED_WITHIN_MS = 60_000;
const POLL_MS = 200;

/** Rows of which there is one for each transfer that was made: what they are, and how many there are now. */
export type Written = Readonly<Record<string, number>>;

/** Transfers that all shards hold. */
export async function countTransfers(shards: readonly string[]): Promise<Written> {
  const counts = await onEach(shards, "select count(*) as value from ledger.transfers");
  return { transfers: counts.reduce((sum, count) => sum + Number(count), 0) };
}

/** The same of transfers that go from one shard to another: both parts are counted, once nothing is half way. */
export async function countCrossShardTransfers(shards: readonly string[]): Promise<Written> {
  await waitUntilFinished(shards);
  const legs = await onEach(shards, "select count(*) as value from ledger.remote_legs where state = 'POSTED'");
  return {
    ...(await countTransfers(shards)),
    "posted legs": legs.reduce((sum, count) => sum + Number(count), 0),
  };
}

/** Waits until no transfer between shards is half way. */
function waitUntilFinished(shards: readonly string[]): Promise<void> {
  return waitUntilNone(
    shards,
    `select (select count(*) from ledger.remote_legs where state = 'PREPARED')
          + (select count(*) from ledger.decisions where state = 'COMMITTED') as value`,
    FINISHED_WITHIN_MS,
    "transfers between shards are half way",
  );
}

/** Throws when a call failed, or when not exactly the acknowledged transfers were written: so a refused call wrote nothing. */
export function checkMeasurement(name: string, measurement: Measurement, before: Written, after: Written): void {
  const { acknowledged, failed, firstFailures } = measurement;
  if (failed > 0) throw new Error(`${name}: ${failed} calls failed: ${firstFailures.join("; ")}`);
  if (acknowledged === 0) throw new Error(`${name}: nothing was acknowledged`);
  for (const [rows, count] of Object.entries(after)) {
    const written = count - (before[rows] ?? 0);
    if (acknowledged !== written) {
      throw new Error(`${name}: ${acknowledged} transfers were acknowledged, but ${written} ${rows} were written`);
    }
  }
}

/**
 * Throws when a shard does not sum to zero, has an account that differs from its entries, or an unpublished event, when a
 * transfer stays half way between shards, or when their transit accounts do not cancel out.
 */
export async function checkShards(shards: readonly string[]): Promise<void> {
  await waitUntilFinished(shards);
  const transit = await onEach(
    shards,
    "select coalesce(sum(posted_minor_units), 0) as value from ledger.accounts where reference = 'system:transit'",
  );
  if (transit.reduce((sum, amount) => sum + BigInt(amount), 0n) !== 0n) {
    throw new Error(`nothing is under way between the shards, but transit is ${transit.join(", ")} per shard`);
  }
  const unequal = await onEach(
    shards,
    `select count(*) as value
       from ledger.accounts a
       left join (select account_id, sum(amount_minor_units) as amount, count(*) as lines, max(sequence) as last
                    from ledger.entries group by account_id) e using (account_id)
      where a.posted_minor_units <> coalesce(e.amount, 0) or a.entry_sequence <> coalesce(e.lines, 0)
         or a.entry_sequence <> coalesce(e.last, 0)`,
  );
  const unbalanced = await onEach(
    shards,
    `select count(*) as value from (select currency from ledger.accounts group by currency
      having sum(posted_minor_units) <> 0) c`,
  );
  for (const [index] of shards.entries()) {
    if (unbalanced[index] !== "0") throw new Error(`shard ${index + 1} does not sum to zero`);
    if (unequal[index] !== "0")
      throw new Error(`shard ${index + 1}: ${unequal[index]} accounts differ from their entries`);
  }
  await waitUntilPublished(shards, PUBLISHED_WITHIN_MS);
}

/** Waits until the relay has published every event; throws when that takes too long. */
export function waitUntilPublished(shards: readonly string[], withinMs: number): Promise<void> {
  return waitUntilNone(
    shards,
    "select h.sequence - c.number as value from ledger.shard_head h join relay.cursor c using (shard)",
    withinMs,
    "events are unpublished",
  );
}

/** Waits until a count is zero on every shard; throws `what` there is when that takes too long. */
async function waitUntilNone(shards: readonly string[], query: string, withinMs: number, what: string): Promise<void> {
  const deadlineMs = Date.now() + withinMs;
  for (;;) {
    const counts = await onEach(shards, query);
    if (counts.every((count) => count === "0")) return;
    if (Date.now() > deadlineMs) {
      throw new Error(`${what} after ${withinMs / 1000} s: ${counts.join(", ")} per shard`);
    }
    await sleep(POLL_MS);
  }
}

/** Throws unless the shards acknowledge only what is on the disk: figures of anything else would not count. */
export async function checkDurable(shards: readonly string[]): Promise<void> {
  for (const setting of ["fsync", "synchronous_commit", "full_page_writes"]) {
    const values = await onEach(shards, `select current_setting('${setting}') as value`);
    if (values.some((value) => value !== "on")) throw new Error(`${setting} is ${values.join(", ")}: not durable`);
  }
}

/** Writes dirty pages now, so that every measurement begins alike. */
export async function checkpoint(shards: readonly string[]): Promise<void> {
  await Promise.all(shards.map((shard) => withClient(shard, (db) => db.query("checkpoint"))));
}

/** Everything that autovacuum would do sooner or later. */
export async function vacuum(shards: readonly string[]): Promise<void> {
  await Promise.all(shards.map((shard) => withClient(shard, (db) => db.query("vacuum (analyze)"))));
}

/** The column `value` of the one row that a query answers, per shard. */
function onEach(shards: readonly string[], query: string): Promise<string[]> {
  return Promise.all(
    shards.map((shard) =>
      withClient(shard, async (db) => {
        const { rows } = await db.query<{ value: string }>(query);
        return String(rows[0]?.value);
      }),
    ),
  );
}

async function withClient<T>(shard: string, work: (db: Client) => Promise<T>): Promise<T> {
  const db = new Client({ connectionString: shard });
  await db.connect();
  try {
    return await work(db);
  } finally {
    await db.end();
  }
}
