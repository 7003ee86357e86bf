import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { CommandOutcome } from "#services/ledger/command.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";
import { submit } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";

/**
 * A posting of which nothing is left is EXHAUSTED beside the account that it credited. The transfer's own shard is told, and
 * is REVERSED when all of its postings are; then the posting is NOTED. Each step may be done twice, by whoever comes first:
 * the call that took the last of it back, or recovery.
 */

/** Postings of the transfer that are exhausted on the shard, and not noted. Throws when the shard does not answer. */
export async function readExhausted(handle: ShardHandle, transferId: string): Promise<number[]> {
  const { rows } = await handle.shard.reads.query<[number]>({
    name: "read-exhausted",
    text: "select posting_index from ledger.refunded_postings where transfer_id = $1 and state = 'EXHAUSTED'",
    values: [idToUuid(transferId)],
    rowMode: "array",
  });
  return rows.map(([postingIndex]) => postingIndex);
}

/** Tells the transfer's own shard. */
export function noteReversed(
  ctx: Context,
  transferId: string,
  postingIndexes: readonly number[],
  lane: LaneName,
  deadlineMs: number,
): Promise<CommandOutcome> {
  return submit(
    ownShard(ctx, transferId),
    {
      kind: "note_reversed",
      key: undefined,
      name: `note ${transferId} ${postingIndexes.join()}`,
      weight: 1,
      accounts: [],
      transferId,
      postingIndexes,
    },
    lane,
    deadlineMs,
  );
}

/** Where the transfer's own row is. */
export function ownShard(ctx: Context, transferId: string): ShardHandle {
  return ctx.shardOf(shardOfBucket(ctx.map, bucketOfUuid(idToUuid(transferId))));
}

/** Afterwards, on the shard where they are exhausted. */
export function closeRefunds(
  handle: ShardHandle,
  transferId: string,
  postingIndexes: readonly number[],
  lane: LaneName,
  deadlineMs: number,
): Promise<CommandOutcome> {
  return submit(
    handle,
    {
      kind: "close_refunds",
      key: undefined,
      name: `close refunds ${transferId} ${postingIndexes.join()}`,
      weight: 1,
      accounts: [],
      transferId,
      postingIndexes,
    },
    lane,
    deadlineMs,
  );
}
