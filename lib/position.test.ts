import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePosition, encodePosition } from "#lib/position.ts";

test("a token says the highest number of each shard", () => {
  const token = encodePosition([
    { shard: 1, number: 5n },
    { shard: 2, number: 9_007_199_254_740_993n },
    { shard: 1, number: 4n },
  ]);
  assert.deepEqual(decodePosition(token), [
    { shard: 1, number: 5n },
    { shard: 2, number: 9_007_199_254_740_993n },
  ]);
});

test("what is no token is refused", () => {
  const encode = (text: string) => Buffer.from(text).toString("base64url");
  for (const token of [
    "",
    "%%%",
    encode("1"),
    encode("0:1"),
    encode("1:-1"),
    encode("1:1,"),
    encode("a:b"),
    "A".repeat(20_000),
  ]) {
    assert.equal(decodePosition(token), undefined, token.slice(0, 20));
  }
});
