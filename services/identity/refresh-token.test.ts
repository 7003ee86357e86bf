import assert from "node:assert/strict";
import { test } from "node:test";
import { idGenerator } from "#lib/ids.ts";
import { identityKeys } from "#services/identity/identity-keys.ts";
import {
  firstRefreshToken,
  nextRefreshToken,
  readRefreshToken,
  refreshHash,
  writeRefreshToken,
} from "#services/identity/refresh-token.ts";

const keys = identityKeys(Buffer.alloc(32, 1));
const sessionId = idGenerator(Date.now)("sess", 77);
const first = firstRefreshToken(sessionId);

test("a token is read as it was written", () => {
  assert.deepEqual(readRefreshToken(keys, writeRefreshToken(keys, first)), first);
  assert.equal(refreshHash(first).length, 32);
});

test("a token that is altered anywhere, cut, padded or another system's is none", () => {
  const text = writeRefreshToken(keys, first);
  const bytes = Buffer.from(text, "base64url");
  for (let index = 0; index < bytes.length; index += 1) {
    const altered = Buffer.from(bytes);
    altered[index] = (altered[index] as number) ^ 4;
    assert.equal(readRefreshToken(keys, altered.toString("base64url")), undefined);
  }
  for (const wrong of ["", "x", text.slice(1), `${text}A`, `${text}=`, ` ${text}`, text.repeat(2)]) {
    assert.equal(readRefreshToken(keys, wrong), undefined);
  }
  assert.equal(readRefreshToken(identityKeys(Buffer.alloc(32, 2)), text), undefined);
});

test("the next token follows from an idempotency key, and from nothing without one", () => {
  assert.deepEqual(nextRefreshToken(keys, first, "k"), nextRefreshToken(keys, first, "k"));
  assert.equal(nextRefreshToken(keys, first, "k").number, 2);
  assert.notDeepEqual(nextRefreshToken(keys, first, "k"), nextRefreshToken(keys, first, "l"));
  assert.notDeepEqual(
    nextRefreshToken(keys, first, "k").secret,
    nextRefreshToken(keys, firstRefreshToken(sessionId), "k").secret,
  );
  assert.notDeepEqual(nextRefreshToken(keys, first, undefined), nextRefreshToken(keys, first, undefined));
});
