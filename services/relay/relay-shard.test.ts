import assert from "node:assert/strict";
import { test } from "node:test";
import type { StoredEvent } from "#lib/events.ts";
import { checkContiguous } from "#services/relay/relay-shard.ts";

const numbered = (...numbers: bigint[]): StoredEvent[] =>
  numbers.map((number) => ({
    number,
    bucket: 0,
    aggregateId: "",
    aggregateVersion: 1n,
    type: "",
    schemaVersion: 1,
    payload: "{}",
    occurredAt: "",
  }));

test("events that follow the cursor without a gap may be published", () => {
  checkContiguous(7n, numbered(8n, 9n, 10n));
  checkContiguous(7n, []);
});

test("a hole in the log is never published over", () => {
  assert.throws(() => checkContiguous(7n, numbered(9n)), /event 8 is missing: the log goes on with 9/);
  assert.throws(() => checkContiguous(7n, numbered(8n, 10n)), /event 9 is missing/);
  assert.throws(() => checkContiguous(7n, numbered(7n)), /event 8 is missing/);
});
