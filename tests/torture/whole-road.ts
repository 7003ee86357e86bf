import { spawn } from "node:child_process";
import { pause } from "#lib/back-off.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { assertProjectionEqualsLedger, cursorOf, headOf } from "#tests/projection.ts";
import { eventually, postgres, shardNumbers, stackName } from "#tests/stack.ts";
import { assertPublished } from "#tests/stream.ts";
import type { Finding } from "#tests/torture/history.ts";

/** What must hold of the shards by themselves and together, and of what comes after them. */

const ROAD_TIMEOUT_MS = 120_000;

/** Invariants of each shard, and transit over all of them. */
export async function checkShards(): Promise<Finding[]> {
  const findings = await caught("an invariant is broken", assertInvariants);
  const { rows } = await sumOverShards(
    `select currency, sum(posted_minor_units) as sum from ledger.accounts where reference = 'system:transit' group by currency`,
  );
  const open = [...rows].filter(([, sum]) => sum !== 0n);
  if (open.length > 0) {
    findings.push({ what: "transit is not zero over all shards", ids: open.map(([unit, sum]) => `${sum} ${unit}`) });
  }
  return findings;
}

async function sumOverShards(sql: string): Promise<{ rows: ReadonlyMap<string, bigint> }> {
  const sums = new Map<string, bigint>();
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query<{ currency: string; sum: string }>(sql);
    for (const { currency, sum } of rows) sums.set(currency, (sums.get(currency) ?? 0n) + BigInt(sum));
  }
  return { rows: sums };
}

/** Every event is in JetStream, in order; and with Elasticsearch, everything is there once and equal. */
export async function checkRoad(withElasticsearch: boolean): Promise<Finding[]> {
  const published = await caught("not everything is published", async () => {
    for (const shard of shardNumbers) {
      await eventually(
        async () => (await cursorOf(shard)) === (await headOf(shard)),
        `the relay has reached the head of shard ${shard}`,
        ROAD_TIMEOUT_MS,
      );
      await assertPublished(shard, 0, 0n);
    }
  });
  const checked = await caught("ledgermesh check is not content", () => ledgermesh("check"));
  const audited = await caught("the events are not as they were sealed", () => ledgermesh("audit", "verify"));
  if (!withElasticsearch) return [...published, ...checked, ...audited];
  const projected = await caught("the history is not the ledger", () => assertProjectionEqualsLedger({ quiet: true }));
  return [...published, ...checked, ...audited, ...projected];
}

const COMMAND_TIMEOUT_MS = 300_000;

/** `ledgermesh check` is for a live system: amid faults it may fail to look (2), and must not find anything (1). */
export async function checkWhileItRuns(afterMs: number, signal: AbortSignal): Promise<Finding[]> {
  await pause(afterMs, signal);
  if (signal.aborted) return [];
  const { status, said } = await runLedgermesh(["check"]);
  return status === 1 ? [{ what: "ledgermesh check finds something amid faults", ids: [said] }] : [];
}

/** Runs a command that looks at the stack, as an operator would; rejects with what it said unless it ends with 0. */
async function ledgermesh(...args: readonly string[]): Promise<void> {
  const { status, said } = await runLedgermesh(args);
  if (status !== 0) throw new Error(`ledgermesh ${args.join(" ")} ended with ${status}: ${said}`);
}

async function runLedgermesh(args: readonly string[]): Promise<{ status: number | null; said: string }> {
  const all = ["cli/main.ts", ...args, "--stack", stackName];
  const child = spawn(process.execPath, all, { stdio: ["ignore", "pipe", "pipe"], timeout: COMMAND_TIMEOUT_MS });
  let said = "";
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-SAID_LENGTH);
    });
  }
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { status, said };
}

const SAID_LENGTH = 4_000;

async function caught(what: string, check: () => Promise<void>): Promise<Finding[]> {
  try {
    await check();
    return [];
  } catch (error) {
    return [{ what, ids: [error instanceof Error ? error.message : String(error)] }];
  }
}
