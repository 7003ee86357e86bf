import { setTimeout as sleep } from "node:timers/promises";
import { processorsUsed, readCpuSeconds } from "#bench/cpu.ts";
import { fundAccounts } from "#bench/fund-accounts.ts";
import { CALLERS, type Harness, measureChecked, unaryLoad } from "#bench/harness.ts";
import { openLedger } from "#bench/ledger-client.ts";
import { HISTORY_SECONDS, measureHistory, TRANSFERS_PER_SECOND } from "#bench/measure-history.ts";
import { perSecond, summarize } from "#bench/measurement.ts";
import { measureMemory } from "#bench/memory.ts";
import { uniformPairs } from "#bench/pairs.ts";
import type { Row } from "#bench/table.ts";
import { checkMeasurement, checkShards, countTransfers } from "#bench/verify.ts";
import { checkHistory, waitUntilProjected } from "#bench/verify-history.ts";

/** Everything runs: what a payment costs then, and how soon it is in the history. */

export const FULL_WORKLOADS = ["memory", "history", "full"];

const ACCOUNTS_PER_SHARD = 10_000;
const VISIBLE_P99_MAX_MS = 2_000;
/** The schedule counts as kept when this share of it was done in its time. */
const SUSTAINED_SHARE_MIN = 0.99;
const REST_MS = 10_000;
const GIB = 1024 ** 3;
const MEMORY_MAX_GIB = 3;
const PROJECTED_WITHIN_MS = 600_000;

export async function runFullWorkloads(harness: Harness): Promise<Row[]> {
  const { stack, say, wanted, signal } = harness;
  const rows: Row[] = [];
  if (wanted("memory")) {
    say(`leaving everything at rest for ${REST_MS / 1000} s`);
    await sleep(REST_MS, undefined, { signal });
    rows.push(memoryRow(harness));
  }
  if (!wanted("history") && !wanted("full")) return rows;

  const ledger = openLedger(stack);
  try {
    say(`funding ${ACCOUNTS_PER_SHARD} accounts on each shard`);
    const groups = [];
    for (const [index] of stack.shards.entries()) {
      groups.push(await fundAccounts(ledger, ACCOUNTS_PER_SHARD, [index + 1], stack.shards.length));
    }
    await untilProjected(harness);
    if (wanted("history")) rows.push(...(await runHistory(harness, groups)));
    const [onShard1] = groups;
    if (wanted("full") && onShard1 !== undefined) rows.push(...(await runUnary(harness, onShard1)));
    say("checking: sums, balances against entries, everything published, everything in the history");
    await checkShards(stack.shards);
    await checkHistory(stack.elasticsearch, stack.shards, []);
    return rows;
  } finally {
    ledger.close();
  }
}

function memoryRow({ say }: Harness): Row {
  const { byPart, proportionalBytes, residentBytes } = measureMemory();
  const gib = (bytes: number) => `${(bytes / GIB).toFixed(2)} GiB`;
  say(`  ${byPart.map(({ name, bytes }) => `${name} ${Math.round(bytes / 1024 ** 2)} MiB`).join(", ")}`);
  return {
    workload: `memory of all parts at rest (${gib(residentBytes)} when shared pages count several times)`,
    figure: gib(proportionalBytes),
    bound: `< ${MEMORY_MAX_GIB} GiB`,
    met: proportionalBytes < MEMORY_MAX_GIB * GIB,
  };
}

async function runHistory(harness: Harness, groups: readonly (readonly string[])[]): Promise<Row[]> {
  const { stack, say, signal } = harness;
  say(`${TRANSFERS_PER_SECOND} transfers/s through REST for ${HISTORY_SECONDS} s`);
  const before = await countTransfers(stack.shards);
  const cpuBefore = readCpuSeconds();
  const startedMs = performance.now();
  const { transfers, visible, transferIds, reads, readsRefused } = await measureHistory(
    stack.gateway,
    await harness.token(),
    groups,
    signal,
    say,
  );
  harness.sawProcessors(processorsUsed(cpuBefore, readCpuSeconds(), performance.now() - startedMs));
  signal.throwIfAborted();
  const workload = `${TRANSFERS_PER_SECOND}/s through REST for ${HISTORY_SECONDS} s, everything running`;
  const all = { ...transfers, acknowledged: transferIds.length };
  checkMeasurement(workload, all, before, await countTransfers(stack.shards));
  await untilProjected(harness);
  await checkHistory(stack.elasticsearch, stack.shards, transferIds);
  say(`  ${reads} reads of the history; ${readsRefused} of them were told to try again`);
  const sustained = perSecond(transfers) >= SUSTAINED_SHARE_MIN * TRANSFERS_PER_SECOND;
  const { p50Ms, p95Ms, p99Ms, maxMs } = summarize([visible]);
  return [
    { workload, summary: summarize([transfers]), bound: `${TRANSFERS_PER_SECOND}/s kept`, met: sustained },
    {
      workload: `  visible in history: ${visible.latenciesUs.length} of them watched, longest ${maxMs.toFixed(0)} ms`,
      summary: { perSecond: perSecond(transfers), rounds: [], p50Ms, p95Ms, p99Ms, maxMs },
      bound: `p99 < ${VISIBLE_P99_MAX_MS} ms`,
      met: sustained && p99Ms < VISIBLE_P99_MAX_MS,
    },
  ];
}

async function runUnary(harness: Harness, accountIds: readonly string[]): Promise<Row[]> {
  const { stack, client, say } = harness;
  const workload = `unary gRPC, ${CALLERS} callers, everything running, ${client.names.grpc}`;
  say("unary gRPC with everything running");
  const measurement = await measureChecked(harness, {
    name: workload,
    measure: () => client.measure(unaryLoad(harness, "grpc", uniformPairs(accountIds))),
    count: () => countTransfers(stack.shards),
  });
  const startedMs = performance.now();
  const behind = await untilProjected(harness);
  const perSecondAfter = (Number(behind) * 1000) / (performance.now() - startedMs);
  return [
    { workload, summary: summarize([measurement]) },
    {
      workload: `  the history was ${behind} transfers behind then, and caught up at`,
      figure: Math.round(perSecondAfter).toLocaleString("en"),
    },
  ];
}

function untilProjected({ stack, say }: Harness): Promise<bigint> {
  return waitUntilProjected(stack.elasticsearch, stack.shards, PROJECTED_WITHIN_MS, say);
}
