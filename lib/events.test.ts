import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeChunk,
  encodeChunks,
  LEDGER_LOG,
  MAX_CHUNK_BYTES,
  MAX_CHUNK_EVENTS,
  type StoredEvent,
  toReceivedEvent,
} from "#lib/events.ts";

function event(number: bigint, payload = '{"memo":"a \\"quote\\" 🪙","amount":"9007199254740993"}'): StoredEvent {
  return {
    number,
    bucket: 7,
    aggregateId: "xfer_1",
    aggregateVersion: 1n,
    type: "transfer_posted",
    schemaVersion: 1,
    payload,
    occurredAt: "2026-11-21T12:00:00.000Z",
  };
}

test("a chunk brings its events as they were stored, whether they came over JetStream or from the shard", () => {
  const events = [event(5n), event(6n)];
  const [chunk, ...others] = encodeChunks(LEDGER_LOG, 2, events);
  assert.equal(others.length, 0);
  assert.deepEqual([chunk?.first, chunk?.last, chunk?.count], [5n, 6n, 2]);
  assert.deepEqual(decodeChunk(chunk?.body as string), events.map(toReceivedEvent));
});

test("a chunk is a CloudEvents batch", () => {
  const [chunk] = encodeChunks(LEDGER_LOG, 2, [event(5n)]);
  const [parsed] = JSON.parse(chunk?.body as string);
  assert.equal(parsed.specversion, "1.0");
  assert.equal(parsed.id, "2/5");
  assert.equal(parsed.source, "/ledger/shards/2");
  for (const name of Object.keys(parsed)) assert.match(name, /^[a-z0-9]{1,20}$/);
});

test("chunks are contiguous and bounded in events and bytes; an event above the bound travels alone", () => {
  const big = `{"memo":"${"x".repeat(200_000)}"}`;
  const events = Array.from({ length: 1_200 }, (_, index) => event(BigInt(index + 1), index % 100 === 0 ? big : "{}"));
  events.push(event(1_201n, `{"memo":"${"x".repeat(MAX_CHUNK_BYTES)}"}`), event(1_202n, "{}"));
  const chunks = encodeChunks(LEDGER_LOG, 1, events);
  let next = 1n;
  for (const chunk of chunks) {
    assert.equal(chunk.first, next);
    assert.equal(BigInt(chunk.count), chunk.last - chunk.first + 1n);
    assert.ok(chunk.count <= MAX_CHUNK_EVENTS);
    assert.ok(chunk.count === 1 || Buffer.byteLength(chunk.body) <= MAX_CHUNK_BYTES);
    next = chunk.last + 1n;
  }
  assert.equal(next, 1_203n);
  assert.deepEqual(encodeChunks(LEDGER_LOG, 1, []), []);
});
