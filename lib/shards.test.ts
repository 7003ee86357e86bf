import assert from "node:assert/strict";
import { test } from "node:test";
import { BUCKET_COUNT, FIRST_PINNED_BUCKET } from "#lib/ids.ts";
import { evenBucketRanges, shardOfBucket, systemBucketOf } from "#lib/shards.ts";

test("every bucket has one shard, and every shard user buckets and a pinned one", () => {
  for (const shardCount of [1, 2, 3, 7, 256]) {
    const map = { version: 1, ranges: evenBucketRanges(shardCount) };
    const users = new Map<number, number>();
    for (let bucket = 0; bucket < BUCKET_COUNT; bucket += 1) {
      assert.equal(map.ranges.filter((range) => range.firstBucket <= bucket && bucket <= range.lastBucket).length, 1);
      const shard = shardOfBucket(map, bucket);
      if (bucket < FIRST_PINNED_BUCKET) users.set(shard, (users.get(shard) ?? 0) + 1);
    }
    assert.equal(users.size, shardCount);
    for (let shard = 1; shard <= shardCount; shard += 1) {
      const bucket = systemBucketOf(map, shard);
      assert.ok(bucket >= FIRST_PINNED_BUCKET);
      assert.equal(shardOfBucket(map, bucket), shard);
    }
  }
});

test("more shards than pinned buckets are refused", () => {
  assert.throws(() => evenBucketRanges(257));
  assert.throws(() => evenBucketRanges(0));
});
