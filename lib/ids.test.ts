import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bucketOfUuid, idGenerator, idToUuid, parseId, uuidToId } from "#lib/ids.ts";

test("an id carries its time and its bucket, and survives the way to Postgres and back", () => {
  fc.assert(
    fc.property(fc.nat(4095), fc.integer({ min: 0, max: 2 ** 47 }), (bucket, timeMs) => {
      const id = idGenerator(() => timeMs)("acct", bucket);
      const uuid = idToUuid(id);
      assert.match(id, /^acct_[0-9a-hjkmnp-tv-z]{26}$/);
      assert.equal(Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16), timeMs);
      assert.equal(bucketOfUuid(uuid), bucket);
      assert.deepEqual(parseId(id, "acct"), { uuid, bucket });
      assert.equal(uuidToId("acct", uuid), id);
    }),
  );
});

test("ids sort by time", () => {
  let now = 1_000;
  const newId = idGenerator(() => now);
  const early = newId("xfer", 4095);
  now += 1;
  assert.ok(early < newId("xfer", 0));
});

test("ids of one moment and bucket differ", () => {
  const newId = idGenerator(() => 5);
  assert.equal(new Set(Array.from({ length: 5_000 }, () => newId("xfer", 7))).size, 5_000);
});

test("what is no id is refused: another prefix, alphabet, length, version or variant", () => {
  const id = idGenerator(() => 5)("acct", 7);
  const bodies = [
    "",
    "acct_",
    id.slice(0, -1),
    `${id}0`,
    id.toUpperCase(),
    id.replace("_", ""),
    `acct_8${id.slice(6)}`,
    "acct_' or 1=1",
  ];
  for (const text of bodies) assert.equal(parseId(text, "acct"), undefined, text);
  assert.equal(parseId(id, "xfer"), undefined);
  assert.equal(parseId(uuidToId("acct", "019ac000-0000-4000-8000-000000000000"), "acct"), undefined);
  assert.equal(parseId(uuidToId("acct", "019ac000-0000-7000-0000-000000000000"), "acct"), undefined);
});
