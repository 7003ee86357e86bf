import assert from "node:assert/strict";
import { test } from "node:test";
import { PAGE_TOKEN_LIFETIME_MS, pageTokens } from "#lib/page-token.ts";

const key = Buffer.alloc(32, 7);
const scope = ["ListEntries", "local", "acct_1"];
const refused = { name: "Refusal", reason: "PAGE_TOKEN_INVALID" };

test("a token opens to its cursor, in the list it was made for", () => {
  const tokens = pageTokens(key, () => 0);
  assert.deepEqual(tokens.open(scope, tokens.seal(scope, ["2026-01-01", "7"])), ["2026-01-01", "7"]);
});

test("a token of another list, key or time, and a forged one, are refused", () => {
  let now = 0;
  const tokens = pageTokens(key, () => now);
  const token = tokens.seal(scope, ["1"]);
  const [body, mac] = token.split(".") as [string, string];
  const forged = Buffer.from(Buffer.from(body, "base64url").toString().replace('"1"', '"2"')).toString("base64url");
  assert.throws(() => tokens.open(["ListEntries", "local", "acct_2"], token), refused);
  assert.throws(() => tokens.open(["ListEntries", "somebody", "acct_1"], token), refused);
  assert.throws(() => pageTokens(Buffer.alloc(32, 8), () => now).open(scope, token), refused);
  for (const text of [
    `${forged}.${mac}`,
    body,
    `${body}.`,
    `${body}.${mac}.${mac}`,
    "",
    ".",
    "a.b",
    "x".repeat(5_000),
  ]) {
    assert.throws(() => tokens.open(scope, text), refused, text.slice(0, 30));
  }
  now = PAGE_TOKEN_LIFETIME_MS + 1;
  assert.throws(() => tokens.open(scope, token), refused);
});

test("scopes cannot be shifted into one another", () => {
  const tokens = pageTokens(key, () => 0);
  assert.throws(() => tokens.open(["a", "bc"], tokens.seal(["ab", "c"], [])), refused);
});
