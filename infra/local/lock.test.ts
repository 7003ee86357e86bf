import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { lockHolder, releaseLock, tryLock, waitForLock } from "#infra/local/lock.mjs";
import { root } from "#infra/local/paths.mjs";
import { identify } from "#infra/local/processes.mjs";

const folder = mkdtempSync(join(tmpdir(), "ledgermesh-lock-"));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, "test.lock");

test("a lock is held by one process at a time, and free after its release", () => {
  assert.equal(tryLock(file), undefined);
  assert.equal(lockHolder(file)?.pid, process.pid);
  assert.equal(tryLock(file)?.pid, process.pid);
  releaseLock(file);
  assert.equal(lockHolder(file), undefined);
  assert.deepEqual(readdirSync(folder), []);
});

test("the lock of a process that is gone is taken over, also when its pid belongs to another one", () => {
  const own = identify(process.pid);
  assert.ok(own);
  for (const stale of [
    { ...own, startTime: "1" },
    { ...own, boot: "another boot" },
    { ...own, pid: 2 ** 22 + 1 },
  ]) {
    writeFileSync(file, JSON.stringify(stale));
    assert.equal(lockHolder(file), undefined);
    assert.equal(tryLock(file), undefined);
    assert.equal(lockHolder(file)?.startTime, own.startTime);
    releaseLock(file);
  }
});

test("a lock file without content, as a full disk leaves it, is taken over", () => {
  writeFileSync(file, "");
  assert.equal(tryLock(file), undefined);
  releaseLock(file);
});

test("eight processes that want a stale lock at once have it one after the other", async () => {
  writeFileSync(file, JSON.stringify({ pid: 1, startTime: "1", boot: "none" }));
  const journal = join(folder, "journal");
  const script = `
    import { appendFileSync } from "node:fs";
    import { releaseLock, waitForLock } from "#infra/local/lock.mjs";
    await waitForLock(${JSON.stringify(file)}, 30_000, () => {});
    appendFileSync(${JSON.stringify(journal)}, "in ");
    await new Promise((resolve) => setTimeout(resolve, 20));
    appendFileSync(${JSON.stringify(journal)}, "out ");
    releaseLock(${JSON.stringify(file)});`;
  const children = Array.from({ length: 8 }, () =>
    spawn(process.execPath, ["--input-type=module", "-e", script], { cwd: root, stdio: "inherit" }),
  );
  const codes = await Promise.all(children.map(async (child) => (await once(child, "exit"))[0] as number));
  assert.deepEqual(codes, Array(8).fill(0));
  assert.equal(readFileSync(journal, "utf8"), "in out ".repeat(8));
  assert.equal(existsSync(file), false);
});

test("who waits too long for a lock is told who holds it", async () => {
  assert.equal(tryLock(file), undefined);
  const waited: number[] = [];
  await assert.rejects(
    waitForLock(file, 150, (holder) => waited.push(holder.pid)),
    new RegExp(`process ${process.pid} holds`),
  );
  assert.deepEqual(waited, [process.pid]);
  releaseLock(file);
});
