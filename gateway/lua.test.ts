import assert from "node:assert/strict";
import { test } from "node:test";
import { toLua } from "#gateway/lua.ts";

test("data become an expression of Lua", () => {
  assert.equal(toLua({ a: [1, true, "x"], "b c": {} }), '{["a"] = {1, true, "x"}, ["b c"] = {}}');
});

test("a string cannot break out of its quotes", () => {
  assert.equal(toLua('"]]\\\n%ä1'), '"\\034]]\\092\\010%\\195\\1641"');
});

test("what has no form in Lua is refused", () => {
  assert.throws(() => toLua({ a: null }), /null has no form in Lua/);
  assert.throws(() => toLua([undefined]), /undefined has no form in Lua/);
});
