import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inStopOrder } from "#infra/local/state.ts";
import { backOffMs } from "#infra/local/supervisor.ts";

test("parts stop in rising order, those of one number side by side", async () => {
  const journal: string[] = [];
  const parts = [
    { name: "postgres-1", stopOrder: 4 },
    { name: "ledger", stopOrder: 1 },
    { name: "nats", stopOrder: 3 },
    { name: "relay", stopOrder: 1 },
  ];
  await inStopOrder(parts, async ({ name }) => {
    journal.push(`${name} begins`);
    await sleep(5);
    journal.push(`${name} ends`);
  });
  assert.deepEqual(journal, [
    "ledger begins",
    "relay begins",
    "ledger ends",
    "relay ends",
    "nats begins",
    "nats ends",
    "postgres-1 begins",
    "postgres-1 ends",
  ]);
});

test("restarts come ever more slowly, up to a bound", () => {
  const delays = Array.from({ length: 12 }, (_, index) => backOffMs(index + 1));
  assert.deepEqual(delays.slice(0, 4), [250, 500, 1000, 2000]);
  assert.equal(delays.at(-1), 10_000);
  assert.equal(backOffMs(10_000), 10_000);
});
