import assert from "node:assert/strict";
import { test } from "node:test";
import { Refresher } from "#services/projector/refresher.ts";

/** A refresher whose refreshes end when told so. */
function held() {
  const started: { indices: string[]; atMs: number; end: () => void; fail: () => void }[] = [];
  const refresher = new Refresher((indices) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    started.push({ indices, atMs: performance.now(), end: resolve, fail: () => reject(new Error("no")) });
    return promise;
  });
  const whenStarted = async (count: number) => {
    while (started.length < count) await new Promise((resolve) => setTimeout(resolve, 1));
    return started[count - 1] as (typeof started)[number];
  };
  return { refresher, started, whenStarted };
}

test("who comes before a refresh begins shares it; who comes later gets the next", async () => {
  const { refresher, started, whenStarted } = held();
  const early = [refresher.refresh(["a", "b"]), refresher.refresh(["b", "c"])];
  const first = await whenStarted(1);
  assert.deepEqual(first.indices, ["a", "b", "c"]);
  const late = [refresher.refresh(["a"]), refresher.refresh(["d"])];
  first.end();
  await Promise.all(early);
  const second = await whenStarted(2);
  assert.deepEqual(second.indices, ["a", "d"]);
  assert.ok(second.atMs - first.atMs >= 199, "they are spaced");
  second.end();
  await Promise.all(late);
  assert.equal(started.length, 2);
});

test("a refresh that fails is told to those who shared it, and the next works", async () => {
  const { refresher, whenStarted } = held();
  const shared = [refresher.refresh(["a"]), refresher.refresh(["a"])];
  const first = await whenStarted(1);
  const next = refresher.refresh(["a"]);
  first.fail();
  for (const one of shared) await assert.rejects(one, /no/);
  (await whenStarted(2)).end();
  await next;
});

test("a refresh waits for a write that has begun, so that shards do not take turns", async () => {
  const { refresher, started, whenStarted } = held();
  const { promise: write, resolve: written } = Promise.withResolvers<void>();
  let other: Promise<void> | undefined;
  const gathered = refresher.gather(write).then(() => {
    other = refresher.refresh(["b"]);
  });
  const one = refresher.refresh(["a"]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(started.length, 0);
  written();
  await gathered;
  const shared = await whenStarted(1);
  assert.deepEqual(shared.indices, ["a", "b"]);
  shared.end();
  await Promise.all([one, other]);
});
