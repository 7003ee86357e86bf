import type { ClientBase } from "pg";
import { BUCKET_COUNT, FIRST_PINNED_BUCKET } from "#lib/ids.ts";

/**
 * Buckets and shards. The map lives on every shard (`ledger.bucket_map`), the same everywhere; whoever writes checks its
 * version in the commit, so nobody can write to a shard that has given a bucket away.
 */
export interface BucketRange {
  readonly firstBucket: number;
  /** Included. */
  readonly lastBucket: number;
  /** 1, 2, 3 … */
  readonly shard: number;
}

export interface BucketMap {
  readonly version: number;
  readonly ranges: readonly BucketRange[];
}

/** The map of a new system: user buckets and pinned buckets each split evenly. At most one shard per pinned bucket. */
export function evenBucketRanges(shardCount: number): BucketRange[] {
  const pinnedCount = BUCKET_COUNT - FIRST_PINNED_BUCKET;
  if (shardCount < 1 || shardCount > pinnedCount)
    throw new Error(`${shardCount} shards: 1 to ${pinnedCount} are possible`);
  const split = (first: number, count: number): BucketRange[] =>
    Array.from({ length: shardCount }, (_, index) => ({
      firstBucket: first + Math.floor((index * count) / shardCount),
      lastBucket: first + Math.floor(((index + 1) * count) / shardCount) - 1,
      shard: index + 1,
    }));
  return [...split(0, FIRST_PINNED_BUCKET), ...split(FIRST_PINNED_BUCKET, pinnedCount)];
}

/** The shard of a bucket (0..4095). Throws when the map has a hole: a map is checked to have none when it is written. */
export function shardOfBucket(map: BucketMap, bucket: number): number {
  for (const range of map.ranges) {
    if (range.firstBucket <= bucket && bucket <= range.lastBucket) return range.shard;
  }
  throw new Error(`bucket ${bucket} is in no range of bucket map ${map.version}`);
}

/** The bucket where the system accounts of a shard live: its first pinned one. */
export function systemBucketOf(map: BucketMap, shard: number): number {
  const range = map.ranges.find(
    (candidate) => candidate.shard === shard && candidate.firstBucket >= FIRST_PINNED_BUCKET,
  );
  if (range === undefined) throw new Error(`shard ${shard} has no pinned bucket in bucket map ${map.version}`);
  return range.firstBucket;
}

/** Which shard this database is, and the newest map it knows. */
export async function readBucketMap(db: ClientBase): Promise<{ shard: number; map: BucketMap }> {
  const { rows } = await db.query<{ shard: number; map_version: number; first: number; last: number; owner: number }>(
    `select h.shard, h.map_version, m.first_bucket as first, m.last_bucket as last, m.shard as owner
       from ledger.shard_head h join ledger.bucket_map m using (map_version) order by m.first_bucket`,
  );
  const [head] = rows;
  if (head === undefined) throw new Error("the database is not set up: run the migrations first");
  const ranges = rows.map(({ first, last, owner }) => ({ firstBucket: first, lastBucket: last, shard: owner }));
  return { shard: head.shard, map: { version: head.map_version, ranges } };
}
