import { parseId } from "#lib/ids.ts";
import { evenBucketRanges, shardOfBucket } from "#lib/shards.ts";
import { shardNumbers } from "#tests/stack.ts";

const map = { version: 1, ranges: evenBucketRanges(shardNumbers.length) };

/** The shard of an account, a quote or whatever else has a bucket in its id. */
export function shardOfId(id: string): number {
  return shardOfBucket(map, parseId(id)?.bucket ?? 0);
}
