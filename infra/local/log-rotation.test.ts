import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { rotateNow } from "#infra/local/log-rotation.ts";

test("a log that is too large goes on empty, its old content beside it, while its writer has it open", () => {
  const folder = mkdtempSync(join(tmpdir(), "ledgermesh-logs-"));
  const log = openSync(join(folder, "ledger.log"), "a");
  writeSync(log, "old ".repeat(10));
  rotateNow(folder, 100);
  assert.deepEqual(readdirSync(folder), ["ledger.log"]);
  rotateNow(folder, 39);
  writeSync(log, "new");
  closeSync(log);
  assert.equal(readFileSync(join(folder, "ledger.log"), "utf8"), "new");
  assert.equal(readFileSync(join(folder, "ledger.log.1"), "utf8"), "old ".repeat(10));
  rmSync(folder, { recursive: true });
});
