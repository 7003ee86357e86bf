import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesArray, plainArray, textArray } from "#lib/sql-arrays.ts";
import { postgres } from "#tests/stack.ts";

const AWKWARD = [
  "",
  "null",
  "NULL",
  "\\",
  '"',
  "{",
  "}",
  ",",
  " ",
  "'",
  'a\\"b',
  "🪙",
  "\u2028",
  "\t\n",
  "\\x41",
  null,
];

test("every text comes into Postgres as it is, and null as null", async () => {
  const { rows } = await postgres(1).query("select array(select unnest($1::text[])) as texts", [textArray(AWKWARD)]);
  assert.deepEqual(rows[0].texts, AWKWARD);
});

test("numbers, UUIDs and bytes come as they are", async () => {
  const uuid = "019ac000-0000-7000-8000-000000000001";
  const bytes = [Buffer.alloc(0), Buffer.from([0, 255, 92, 34])];
  const { rows } = await postgres(1).query(
    "select $1::bigint[] as numbers, $2::uuid[] as uuids, $3::bytea[] as bytes",
    [plainArray([1n, -9_223_372_036_854_775_808n]), plainArray([uuid]), bytesArray(bytes)],
  );
  assert.deepEqual(rows[0], { numbers: ["1", "-9223372036854775808"], uuids: [uuid], bytes });
});
