import assert from "node:assert/strict";
import { test } from "node:test";
import { turns } from "#services/ledger/turns.ts";

function recorder() {
  const events: string[] = [];
  const ends = new Map<string, () => void>();
  const work = (name: string) => () =>
    new Promise<string>((resolve) => {
      events.push(name);
      ends.set(name, () => resolve(name));
    });
  return { events, work, end: (name: string) => ends.get(name)?.() };
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

test("one that runs alone waits for those before it, and those behind it wait for its end", async () => {
  const { alone, beside } = turns();
  const { events, work, end } = recorder();
  const all = [beside(work("a")), beside(work("b")), alone(work("c")), beside(work("d")), alone(work("e"))];
  await nextTurn();
  assert.deepEqual(events, ["a", "b"]);
  end("b");
  await nextTurn();
  assert.deepEqual(events, ["a", "b"]);
  end("a");
  await nextTurn();
  assert.deepEqual(events, ["a", "b", "c"]);
  end("c");
  await nextTurn();
  assert.deepEqual(events, ["a", "b", "c", "d"]);
  end("d");
  await nextTurn();
  end("e");
  assert.deepEqual(await Promise.all(all), ["a", "b", "c", "d", "e"]);
});

test("a work that fails lets the next one begin", async () => {
  const { alone, beside } = turns();
  const failed = alone(() => Promise.reject(new Error("no")));
  const next = beside(() => Promise.resolve("yes"));
  await assert.rejects(failed, /no/);
  assert.equal(await next, "yes");
});
