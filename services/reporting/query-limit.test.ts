import assert from "node:assert/strict";
import { test } from "node:test";
import { QueryLimit } from "#services/reporting/query-limit.ts";

test("so many run, so many wait, and the rest is refused at once", async () => {
  const limit = new QueryLimit(2, 3, 60_000);
  const gates: (() => void)[] = [];
  let running = 0;
  let most = 0;
  const query = () =>
    limit.run(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => gates.push(resolve));
      running -= 1;
    });
  const accepted = Array.from({ length: 5 }, query);
  await assert.rejects(query(), { reason: "TOO_MANY_QUERIES", status: "RESOURCE_EXHAUSTED" });
  let open = true;
  const ended = Promise.all(accepted).then(() => {
    open = false;
  });
  while (open) {
    gates.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  assert.equal(most, 2);
});

test("a query that fails gives its place back", async () => {
  const limit = new QueryLimit(1, 1, 60_000);
  const failing = () => limit.run(() => Promise.reject(new Error("no")));
  const results = await Promise.allSettled([failing(), failing()]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["rejected", "rejected"],
  );
  assert.equal(await limit.run(async () => 1), 1);
});

test("who waits too long is refused, and its place goes to nobody else's loss", async () => {
  const limit = new QueryLimit(1, 5, 50);
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const first = limit.run(() => held);
  let ran = false;
  await assert.rejects(
    limit.run(async () => {
      ran = true;
    }),
    { reason: "TOO_MANY_QUERIES" },
  );
  release();
  await first;
  assert.equal(ran, false);
  assert.equal(await limit.run(async () => "free"), "free");
});
