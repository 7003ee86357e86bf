import type { Context } from "#services/identity/context.ts";
import type { Shard } from "#services/identity/shard.ts";
import { wakes, workOnEveryShard } from "#services/identity/shard-worker.ts";

/** Takes away what has had its time, in small batches. */
const INTERVAL_MS = 60_000;
const BATCH_ROWS = 1_000;

/** Table, its key, and which rows have had their time. */
const OVER: readonly (readonly [table: string, key: string, condition: string])[] = [
  ["idempotency_keys", "bucket, caller, method, key", "created_at < now() - interval '30 days'"],
  ["login_challenges", "challenge_id", "expires_at < now()"],
  // Full again: the same as none.
  ["sign_in_limits", "email_key", "updated_at < now() - interval '1 hour'"],
  ["login_directory", "email_key", "state = 'RESERVED' and expires_at < now()"],
  ["sessions", "session_id", "expires_at < now() - interval '90 days'"],
  ["login_events", "login_event_id", "occurred_at < now() - interval '180 days'"],
];

/** Works on every shard until the signal aborts. */
export function maintain(ctx: Context, signal: AbortSignal): Promise<void> {
  return workOnEveryShard(ctx, signal, {
    intervalMs: INTERVAL_MS,
    wake: wakes(ctx.shards.length),
    complaint: "what is over cannot be taken away on the shard; trying again",
    round: takeAwayOnce,
  });
}

/** One batch of each table. Answers whether there is more. */
export async function takeAwayOnce(shard: Shard): Promise<boolean> {
  let isMore = false;
  for (const [table, key, condition] of OVER) {
    const { rowCount } = await shard.transact((db) =>
      db.query(
        `delete from identity.${table} where (${key}) in
           (select ${key} from identity.${table} where ${condition} limit $1 for update skip locked)`,
        [BATCH_ROWS],
      ),
    );
    isMore ||= rowCount === BATCH_ROWS;
  }
  return isMore;
}
