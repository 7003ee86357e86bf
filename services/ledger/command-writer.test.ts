import assert from "node:assert/strict";
import { test } from "node:test";
import { optimism } from "#services/ledger/command-writer.ts";

/** How many batches are not tried before the next one is. */
function notTried(of: ReturnType<typeof optimism>): number {
  for (let count = 0; count < 1_000; count += 1) if (of.isWorthwhile()) return count;
  throw new Error("it is never tried again");
}

test("one failure is tried again at once; the more in a row, the longer it is left alone, up to a bound", () => {
  const tried = optimism();
  assert.equal(notTried(tried), 0);
  const waits = Array.from({ length: 8 }, () => {
    tried.failed();
    return notTried(tried);
  });
  assert.deepEqual(waits, [0, 1, 3, 7, 15, 31, 31, 31]);
  tried.succeeded();
  assert.equal(notTried(tried), 0);
  tried.failed();
  assert.equal(notTried(tried), 0);
});
