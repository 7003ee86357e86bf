import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { oneAtATime } from "#services/identity/one-at-a-time.ts";

test("work of one name never overlaps, in the order of its coming, whatever becomes of it; other names do not wait", async () => {
  const { run } = oneAtATime();
  const order: string[] = [];
  let under = 0;
  const work =
    (label: string, fails = false) =>
    async () => {
      under += 1;
      assert.equal(under, 1);
      await setImmediate();
      under -= 1;
      order.push(label);
      if (fails) throw new Error(label);
      return label;
    };
  const results = await Promise.allSettled([run("a", work("1")), run("a", work("2", true)), run("a", work("3"))]);
  assert.deepEqual(order, ["1", "2", "3"]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled"],
  );
  const stuck = run("a", () => new Promise<void>(() => {}));
  assert.equal(await run("b", () => Promise.resolve("free")), "free");
  assert.ok(stuck);
});

test("not everybody may wait", async () => {
  const { run } = oneAtATime();
  const stuck = Array.from({ length: 101 }, () => run("a", () => new Promise<void>(() => {})));
  await assert.rejects(
    run("a", () => Promise.resolve()),
    { reason: "SIGN_IN_OVERLOADED" },
  );
  assert.equal(stuck.length, 101);
});
