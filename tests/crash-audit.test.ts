import assert from "node:assert/strict";
import { after, test } from "node:test";
import { auditReport, auditVerdict } from "#cli/audit-report.ts";
import { auditVerify } from "#cli/audit-verify.ts";
import type { Anchor } from "#cli/verify-events.ts";
import { shardUrls } from "#infra/local/endpoints.ts";
import { cursorOf, headOf } from "#tests/projection.ts";
import { eventually, kill9, pidOf, postgres, shardNumbers, stackName } from "#tests/stack.ts";
import { type Load, progress, startLoad } from "#tests/write-load.ts";

/** Seals under crashes, with writes going on: without a gap, each event once, and everything verifies. */

let stopped: number | undefined;
after(() => {
  if (stopped !== undefined) process.kill(stopped, "SIGCONT");
});

const sealedTo = async (shard: number): Promise<bigint> => {
  const { rows } = await postgres(shard).query<{ number: string }>(
    "select coalesce(max(last_number), 0) as number from relay.seals",
  );
  return BigInt(rows[0]?.number ?? 0);
};

/** Resolves when everything that is committed now is sealed. */
async function whenSealed(): Promise<void> {
  for (const shard of shardNumbers) {
    const head = await headOf(shard);
    await eventually(async () => (await sealedTo(shard)) >= head, `event ${head} of shard ${shard} is sealed`, 60_000);
  }
}

/** Asserts that the seals are whole and verify, also against what was written down; answers what to write down now. */
async function assertSealed(anchors: readonly Anchor[]): Promise<Anchor[]> {
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query(
      `select sum(last_number - first_number + 1)::bigint = max(last_number) as each_once,
              bool_and(first_number = 1 + coalesce(before, 0)) as no_gap,
              max(last_number) >= (select number from relay.cursor) as before_the_cursor
         from (select *, lag(last_number) over (order by first_number) as before from relay.seals) s`,
    );
    assert.deepEqual(rows, [{ each_once: true, no_gap: true, before_the_cursor: true }], `shard ${shard}`);
  }
  const result = await auditVerify({
    shards: shardUrls(stackName, "auditor"),
    anchors,
    signal: new AbortController().signal,
    screen: process.stderr,
  });
  assert.equal(auditVerdict(result), "OK", auditReport(result));
  return result.shards.map((audit) => {
    if (audit.kind !== "verified") throw new Error(audit.reason);
    const { end, chainHash } = audit.verification;
    return { shard: audit.shard, number: end.sealedTo, chainHash };
  });
}

async function underLoad(crashes: (load: Load) => Promise<void>): Promise<void> {
  const load = await startLoad();
  try {
    await progress(load);
    const before = await assertSealed([]);
    await crashes(load);
    await progress(load);
    await assertSealed(before);
  } finally {
    await load.stop();
  }
  await whenSealed();
  await assertSealed([]);
}

test("kill -9 of the relay, several times under writes, leaves no gap in the seals and no event sealed twice", async () => {
  await underLoad(async (load) => {
    for (let count = 0; count < 3; count += 1) {
      await kill9("relay");
      await progress(load, 20);
    }
  });
});

test("a crash of Postgres under writes may take the newest seals, which are made again the same", async () => {
  await underLoad(async () => {
    await kill9("postgres-1");
    await kill9("relay");
    await kill9("postgres-1");
  });
});

test("events are sealed also while NATS hangs, and are published when it is back", async () => {
  const load = await startLoad();
  try {
    await progress(load);
    stopped = pidOf("nats");
    process.kill(stopped, "SIGSTOP");
    const cursors = await Promise.all(shardNumbers.map(cursorOf));
    await progress(load);
    await whenSealed();
    for (const shard of shardNumbers)
      assert.ok(
        (await sealedTo(shard)) > (cursors[shard - 1] as bigint),
        `shard ${shard} was sealed beyond the cursor`,
      );
    await assertSealed([]);
  } finally {
    if (stopped !== undefined) process.kill(stopped, "SIGCONT");
    stopped = undefined;
    await load.stop();
  }
  for (const shard of shardNumbers) {
    const head = await headOf(shard);
    await eventually(
      async () => (await cursorOf(shard)) >= head,
      `event ${head} of shard ${shard} is published`,
      60_000,
    );
  }
  await assertSealed([]);
});
