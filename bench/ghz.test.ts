import assert from "node:assert/strict";
import { test } from "node:test";
import { type GhzCall, toMeasurement } from "#bench/ghz.ts";

const STARTED_MS = Date.parse("2026-01-01T00:00:00Z");
const WARM_UP_MS = 2_000;
const MEASURE_MS = 1_000;

/** A call by the milliseconds after the start at which it was answered. */
const call = (answeredMs: number, latencyMs: number, error = "", status = "Unavailable"): GhzCall => ({
  // Go writes nanoseconds.
  timestamp: new Date(STARTED_MS + answeredMs).toISOString().replace("Z", "456789Z"),
  latency: latencyMs * 1e6,
  status: error === "" ? "OK" : status,
  error,
});
const measured = (...details: GhzCall[]) => toMeasurement({ count: details.length, details }, WARM_UP_MS, MEASURE_MS);

test("warm-up calls, and those answered after the end, are acknowledged but not measured", () => {
  const measurement = measured(call(5, 5), call(1_999, 10), call(2_010, 11), call(2_990, 12.5), call(3_004, 13));
  assert.equal(measurement.acknowledged, 5);
  assert.equal(measurement.failed, 0);
  assert.equal(measurement.measuredMs, MEASURE_MS);
  assert.deepEqual([...measurement.latenciesUs], [11_000, 12_500]);
});

test("failed calls are counted, not measured, and the first messages are kept", () => {
  const failures = ["a", "b", "c", "d"].map((error, index) => call(2_100 + index, 1, error));
  const measurement = measured(call(5, 5), ...failures, call(2_500, 7));
  assert.equal(measurement.acknowledged, 2);
  assert.equal(measurement.failed, 4);
  assert.deepEqual(measurement.firstFailures, ["a", "b", "c"]);
  assert.deepEqual([...measurement.latenciesUs], [7_000]);
});

test("refused calls are counted apart from failed ones", () => {
  const refused = [2_100, 2_200].map((answeredMs) => call(answeredMs, 1, "too many", "ResourceExhausted"));
  const measurement = measured(call(5, 5), ...refused, call(2_300, 1, "a"), call(2_500, 7));
  assert.deepEqual([measurement.acknowledged, measurement.failed, measurement.refused], [2, 1, 2]);
  assert.deepEqual(measurement.firstFailures, ["a"]);
  assert.deepEqual([...measurement.latenciesUs], [7_000]);
});

test("a report that leaves calls out is refused, because their latencies are unknown", () => {
  assert.throws(() => toMeasurement({ count: 2, details: [call(5, 5)] }, WARM_UP_MS, MEASURE_MS), /only 1 of its 2/);
});

test("no calls at all is nothing measured", () => {
  const { acknowledged, latenciesUs } = toMeasurement({ count: 0, details: null }, WARM_UP_MS, MEASURE_MS);
  assert.deepEqual([acknowledged, latenciesUs.length], [0, 0]);
});
