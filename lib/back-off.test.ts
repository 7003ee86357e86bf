import assert from "node:assert/strict";
import { test } from "node:test";
import { BackOff, pause, unlessAborted, Wake } from "#lib/back-off.ts";

const never = new AbortController().signal;
/** Longer than any of these tests takes. */
const LONG_MS = 60_000;

test("a notice given before anybody waits is not lost, and several count as one", async () => {
  const wake = new Wake();
  wake.notify();
  wake.notify();
  assert.equal(await wake.wait(LONG_MS, never), true);
  assert.equal(await wake.wait(1, never), false);
});

test("a notice ends a wait, and so does an abort", async () => {
  const wake = new Wake();
  const noticed = wake.wait(LONG_MS, never);
  wake.notify();
  assert.equal(await noticed, true);
  const stopping = new AbortController();
  const aborted = wake.wait(LONG_MS, stopping.signal);
  stopping.abort();
  assert.equal(await aborted, false);
  assert.equal(await wake.wait(LONG_MS, stopping.signal), false);
});

test("an abort ends a pause at once", async () => {
  const stopping = new AbortController();
  const ended = pause(LONG_MS, stopping.signal);
  stopping.abort();
  await ended;
});

test("a back-off doubles up to its cap and begins anew after a success", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const backOff = new BackOff(100, 300);
  const elapsed = async (durationMs: number) => {
    let ended = false;
    const waiting = backOff.wait(never).then(() => {
      ended = true;
    });
    t.mock.timers.tick(durationMs - 1);
    await Promise.resolve();
    assert.equal(ended, false, `it was shorter than ${durationMs} ms`);
    t.mock.timers.tick(1);
    await waiting;
  };
  for (const durationMs of [100, 200, 300, 300]) await elapsed(durationMs);
  backOff.reset();
  await elapsed(100);
});

test("a promise that an abort overtakes rejects with the reason, and leaves no listener behind", async () => {
  const stopping = new AbortController();
  assert.equal(await unlessAborted(Promise.resolve(1), stopping.signal), 1);
  const waiting = unlessAborted(new Promise(() => {}), stopping.signal);
  stopping.abort(new Error("stopping"));
  await assert.rejects(waiting, /stopping/);
  await assert.rejects(unlessAborted(new Promise(() => {}), stopping.signal), /stopping/);
});
