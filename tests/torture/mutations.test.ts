import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { mutations } from "#tests/torture/mutations.ts";

test("every mutation still breaks what it means to break", () => {
  for (const { name, edits } of mutations) {
    for (const { file, from } of edits) {
      const count = readFileSync(file, "utf8").split(from).length - 1;
      assert.equal(count, 1, `${name}: the text is ${count} times in ${file}: ${from}`);
    }
  }
});
