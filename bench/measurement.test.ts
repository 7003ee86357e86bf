import assert from "node:assert/strict";
import { test } from "node:test";
import { type Measurement, median, percentile, summarize } from "#bench/measurement.ts";

const measured = (latenciesUs: readonly number[]): Measurement => ({
  acknowledged: latenciesUs.length,
  failed: 0,
  firstFailures: [],
  measuredMs: 500,
  latenciesUs: Uint32Array.from(latenciesUs),
});

test("a percentile is a value that was measured, and p100 is the largest", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile(hundred, 1), 100);
  assert.equal(percentile([7], 0.01), 7);
  assert.equal(percentile([1, 2, 3], 0.5), 2);
  assert.ok(Number.isNaN(percentile([], 0.5)));
});

test("the median of an even number of rounds is the mean of the two in the middle", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("the rate is the median of the rounds, and the percentiles are over the calls of all rounds", () => {
  const summary = summarize([measured([1000, 9000]), measured([2000]), measured([3000, 4000, 5000])]);
  assert.deepEqual(summary.rounds, [4, 2, 6]);
  assert.equal(summary.perSecond, 4);
  assert.equal(summary.p50Ms, 3);
  assert.equal(summary.maxMs, 9);
});

test("nothing measured shows as nothing, not as zero", () => {
  assert.ok(Number.isNaN(summarize([measured([])]).p50Ms));
});
