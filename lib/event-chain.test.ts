import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_CHAIN, extendChain, extendChainBy, hashEvent } from "#lib/event-chain.ts";
import type { StoredEvent } from "#lib/events.ts";

const opened: StoredEvent = {
  number: 1n,
  bucket: 7,
  aggregateId: "acct_01jd800000e03r00000000188w",
  aggregateVersion: 1n,
  type: "account_created",
  schemaVersion: 1,
  payload: '{"currency":"EUR"}',
  occurredAt: "2026-01-02T03:04:05.678Z",
};
const posted: StoredEvent = {
  number: 2n,
  bucket: 4095,
  aggregateId: "xfer_01jd800000e03r00000000188w",
  aggregateVersion: 1n,
  type: "transfer_posted",
  schemaVersion: 1,
  payload: '{"memo":"Zürich → 東京 🙂"}',
  occurredAt: "2026-01-02T03:04:05.679Z",
};

/** Made by another program, in another language, from the description alone: it is in docs/audit.md. */
const VECTOR = {
  opened: "75fb7c78544cfac4c57586f9f1795aa8e674c9514f4e9034c83ef7c077c37acf",
  posted: "ccbc54b26c82348b0b99c39bfab67977a6dfd17e8b3218205d9681fb6c786e78",
  chainOfOne: "ad84feb82b6d5bb50414be0aca362b1f162e68c6cb2cc4855bc11d2be4cf204c",
  chainOfTwo: "fe3e7ef8e7fa9248a0918c449055fa186342a949c56a10c404e1dd46a05faef3",
};

test("hashes are those of the format that auditors were given", () => {
  assert.equal(hashEvent(1, opened).toString("hex"), VECTOR.opened);
  assert.equal(hashEvent(1, posted).toString("hex"), VECTOR.posted);
  const chainOfOne = extendChain(EMPTY_CHAIN, hashEvent(1, opened));
  assert.equal(chainOfOne.toString("hex"), VECTOR.chainOfOne);
  assert.equal(extendChain(chainOfOne, hashEvent(1, posted)).toString("hex"), VECTOR.chainOfTwo);
  const both = Buffer.concat([hashEvent(1, opened), hashEvent(1, posted)]);
  assert.equal(extendChainBy(EMPTY_CHAIN, both).toString("hex"), VECTOR.chainOfTwo);
  assert.equal(extendChainBy(EMPTY_CHAIN, Buffer.alloc(0)), EMPTY_CHAIN);
});

test("every field of an event, and its shard, changes the hash", () => {
  const changes: Partial<StoredEvent>[] = [
    {},
    { number: 3n },
    { bucket: 8 },
    { aggregateId: "acct_01jd800000e03r00000000188x" },
    { aggregateVersion: 2n },
    { type: "account_closed" },
    { schemaVersion: 2 },
    { payload: '{"currency":"EUR" }' },
    { occurredAt: "2026-01-02T03:04:05.679Z" },
    // What moves from one field to the next.
    { bucket: 71, aggregateId: "cct_01jd800000e03r00000000188w" },
    { type: "account_created1", schemaVersion: 0 },
  ];
  const hashes = changes.map((change) => hashEvent(1, { ...opened, ...change }).toString("hex"));
  hashes.push(hashEvent(2, opened).toString("hex"));
  assert.equal(new Set(hashes).size, hashes.length);
});

test("an event larger than any before, and a small one after it, are hashed whole", () => {
  const large = { ...opened, payload: `{"memo":"${"é".repeat(200_000)}"}` };
  const other = { ...opened, payload: `{"memo":"${"é".repeat(199_999)}e"}` };
  assert.notDeepEqual(hashEvent(1, large), hashEvent(1, other));
  assert.equal(hashEvent(1, opened).toString("hex"), VECTOR.opened);
});
