import type { Context } from "#services/identity/context.ts";
import { freeAddress, stalledReleases } from "#services/identity/directory-release.ts";
import { advanceEmailChange, takeStalledChanges } from "#services/identity/email-change.ts";
import type { Shard } from "#services/identity/shard.ts";
import { workOnEveryShard } from "#services/identity/shard-worker.ts";

/** Takes the next step of changes of e-mail whose process has died, and frees addresses that it has not come to. */
const INTERVAL_MS = 1_000;
const STALLED_SECONDS = 5;
const ROWS_PER_ROUND = 100;

/** Works on every shard until the signal aborts. */
export function finishEmailChanges(ctx: Context, signal: AbortSignal): Promise<void> {
  return workOnEveryShard(ctx, signal, {
    intervalMs: INTERVAL_MS,
    wake: ctx.changeWake,
    complaint: "changes of e-mail cannot be finished on the shard; trying again",
    round: (shard) => finishOnce(ctx, shard, STALLED_SECONDS),
  });
}

/** One round. Answers whether more waits. */
export async function finishOnce(ctx: Context, shard: Shard, stalledSeconds: number): Promise<boolean> {
  const changes = await shard.transact((db) => takeStalledChanges(db, stalledSeconds, ROWS_PER_ROUND));
  for (const change of changes) await advanceEmailChange(ctx, change);
  const releases = await stalledReleases(shard, stalledSeconds, ROWS_PER_ROUND);
  for (const release of releases) await freeAddress(ctx, release);
  return changes.length === ROWS_PER_ROUND || releases.length === ROWS_PER_ROUND;
}
