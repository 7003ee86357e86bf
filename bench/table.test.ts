import assert from "node:assert/strict";
import { test } from "node:test";
import { formatTable } from "#bench/table.ts";

const summary = { perSecond: 4321.4, rounds: [4321.4], p50Ms: 1, p95Ms: 2.25, p99Ms: 30.06, maxMs: 40 };

test("a missed bound is shouted, a met one is not, and a figure without a bound has no verdict", () => {
  const [, , missed, met, free] = formatTable([
    { workload: "unary", summary, ratio: 0.789, bound: ">= 0.8", met: false },
    { workload: "REST", summary, ratio: 0.5, bound: ">= 0.4", met: true },
    { workload: "memory", figure: "1.2 GiB" },
  ]).split("\n");
  assert.match(missed ?? "", /^\| unary .*\| +4,321 \| +1\.0 \| +2\.3 \| +30\.1 \| +0\.79 \| >= 0\.8 \| MISSED \|$/);
  assert.match(met ?? "", /\| {4}met \|$/);
  assert.match(free ?? "", /1\.2 GiB .*\| +\|$/);
});

test("all lines of a table have the same width", () => {
  const lines = formatTable([
    { workload: "a rather long name of a workload", summary },
    { workload: "b", figure: "x" },
  ]);
  assert.equal(new Set(lines.split("\n").map(({ length }) => length)).size, 1);
});
