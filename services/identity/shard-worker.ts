import { BackOff, Wake } from "#lib/back-off.ts";
import type { Context } from "#services/identity/context.ts";
import type { Shard } from "#services/identity/shard.ts";

/**
 * What the workers share that finish, on every shard, what waits in its tables. They know nothing but what the shards have
 * written, need no leader, and may run many times at once: everything they do may be done twice.
 */
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;

interface ShardWorker {
  readonly intervalMs: number;
  /** Who has something for it may wake it sooner. */
  readonly wake: Wakes;
  readonly complaint: string;
  /** Answers whether more waits: then the next round follows at once. */
  round(shard: Shard): Promise<boolean>;
}

/** A wake for each shard's worker. */
export interface Wakes {
  of(shard: number): Wake;
  /** Wakes all of them. */
  notify(): void;
}

export function wakes(shards: number): Wakes {
  const all = Array.from({ length: shards }, () => new Wake());
  return {
    of: (shard) => all[shard - 1] as Wake,
    notify() {
      for (const wake of all) wake.notify();
    },
  };
}

/** Works on every shard, round by round, until the signal aborts. A round that fails is repeated later, with a warning. */
export async function workOnEveryShard(ctx: Context, signal: AbortSignal, worker: ShardWorker): Promise<void> {
  await Promise.all(ctx.shards.map((shard) => workOnShard(ctx, shard, signal, worker)));
}

async function workOnShard(ctx: Context, shard: Shard, signal: AbortSignal, worker: ShardWorker): Promise<void> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  const wake = worker.wake.of(shard.number);
  while (!signal.aborted) {
    try {
      const isMore = await worker.round(shard);
      backOff.reset();
      if (!isMore) await wake.wait(worker.intervalMs, signal);
    } catch (error) {
      ctx.log.warn({ shard: shard.number, error: String(error) }, worker.complaint);
      await backOff.wait(signal);
    }
  }
}
