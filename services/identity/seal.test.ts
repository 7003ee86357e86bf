import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { sealFor } from "#services/identity/seal.ts";

const key = randomBytes(32);
const secret = Buffer.from("a private key");

test("what was sealed opens again, and no two seals are alike", () => {
  const { seal, open } = sealFor("tests", key);
  assert.deepEqual(open("row 1", seal("row 1", secret)), secret);
  assert.notDeepEqual(seal("row 1", secret), seal("row 1", secret));
  assert.ok(!seal("row 1", secret).includes(secret));
});

test("altered, cut, in another row, of another purpose or under another key it does not open", () => {
  const { seal, open } = sealFor("tests", key);
  const sealed = seal("row 1", secret);
  for (let index = 0; index < sealed.length; index += 1) {
    const altered = Buffer.from(sealed);
    altered[index] = (altered[index] as number) ^ 1;
    assert.throws(() => open("row 1", altered), /cannot be opened/);
  }
  assert.throws(() => open("row 1", sealed.subarray(0, 20)), /cannot be opened/);
  assert.throws(() => open("row 2", sealed), /cannot be opened/);
  assert.throws(() => sealFor("others", key).open("row 1", sealed), /cannot be opened/);
  assert.throws(() => sealFor("tests", randomBytes(32)).open("row 1", sealed), /cannot be opened/);
  assert.throws(() => sealFor("tests", Buffer.alloc(31)), /32 bytes/);
});
