import assert from "node:assert/strict";
import { after, test } from "node:test";
import { LEDGER_STREAM, ledgerSubject } from "#lib/events.ts";
import { CallError, call } from "#lib/grpc-client.ts";
import type { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  assertProjectionEqualsLedger,
  cursorOf,
  elasticsearch,
  headOf,
  shardNumbers,
  whenProjected,
} from "#tests/projection.ts";
import { readMetric, startService } from "#tests/service-process.ts";
import {
  eventually,
  kill9,
  ledger,
  openAccount,
  openFunded,
  pidOf,
  stack,
  transfer,
  transferRequest,
} from "#tests/stack.ts";
import { closeNats, lastSequence, publishedEvents, streams } from "#tests/stream.ts";

/**
 * The road from a commit to Elasticsearch under crashes, with writes going on. Afterwards everything that is committed is
 * there exactly once and equal.
 */
const WRITERS_PER_SHARD = 2;
const RETRY_PAUSE_MS = 20;
const FURTHER_HEALTH_PORT = 17_301;

after(async () => {
  await closeNats();
  await elasticsearch.close();
});

interface Load {
  acknowledged(): number;
  stop(): Promise<void>;
}

/** Writes on both shards until stopped; a transfer that failed is repeated under its key. */
async function startLoad(): Promise<Load> {
  let stopped = false;
  let acknowledged = 0;
  async function writer(shard: number): Promise<void> {
    const [payer, payee] = [await openFunded(10_000_000n, {}, shard), await openAccount({}, shard)];
    let request: CreateTransferRequest | undefined;
    while (!stopped) {
      request ??= transferRequest(payer.accountId, payee.accountId, 1n, { memo: "crash" });
      try {
        await call(ledger, ledger.createTransfer, request, {}, 8_000);
        request = undefined;
        acknowledged += 1;
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
      }
    }
  }
  const writers = shardNumbers.flatMap((shard) => Array.from({ length: WRITERS_PER_SHARD }, () => writer(shard)));
  return {
    acknowledged: () => acknowledged,
    async stop() {
      stopped = true;
      await Promise.all(writers);
    },
  };
}

async function progress(load: Load, more = 100): Promise<void> {
  const target = load.acknowledged() + more;
  await eventually(() => load.acknowledged() >= target, `${more} more transfers are acknowledged`, 60_000);
}

/** The number of the stream's shard events must be whole: each at least once, first come in order. */
async function assertPublished(shard: number, afterSequence: number, from: bigint): Promise<void> {
  const last = await headOf(shard);
  await eventually(
    async () => (await cursorOf(shard)) >= last,
    `the relay has reached ${last} on shard ${shard}`,
    60_000,
  );
  let expected = from + 1n;
  for (const { number } of await publishedEvents(shard, afterSequence, last)) {
    const found = BigInt(number);
    assert.ok(found <= expected, `event ${expected} was skipped: ${found} came`);
    if (found === expected) expected += 1n;
  }
  assert.ok(expected > last, `event ${expected} is missing`);
}

for (const part of ["relay", "nats", "projector", "postgres-1", "elasticsearch"]) {
  test(`kill -9 of ${part} under writes loses no event and doubles no entry`, async () => {
    const froms = await Promise.all(shardNumbers.map(headOf));
    const sequence = await lastSequence();
    const load = await startLoad();
    await progress(load);
    await kill9(part);
    await progress(load);
    await load.stop();
    for (const shard of shardNumbers) await assertPublished(shard, sequence, froms[shard - 1] as bigint);
    await assertProjectionEqualsLedger({ quiet: true });
  });
}

test("kill -9 of the relay again and again, and of the projector, loses no event and doubles no entry", async () => {
  const load = await startLoad();
  for (let round = 0; round < 3; round += 1) {
    for (const part of ["relay", "projector"]) {
      await progress(load, 20);
      await kill9(part);
    }
  }
  await progress(load, 20);
  await load.stop();
  await assertProjectionEqualsLedger({ quiet: true });
});

test("what JetStream lost is fetched from the shard, a last chunk too", async () => {
  const [shard] = shardNumbers as [number];
  await whenProjected();
  const fetchedBefore = (await readMetric(stack.health.projector, "ledgermesh_projector_fetched_events_total")) ?? 0;
  const [payer, payee] = [await openFunded(1_000n, {}, shard), await openAccount({}, shard)];
  const projector = pidOf("projector");
  process.kill(projector, "SIGSTOP");
  try {
    // More chunks than the projector can have asked for already; then all of them are gone.
    for (let index = 0; index < 40; index += 1) await transfer(payer.accountId, payee.accountId, 1n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    await (await streams()).streams.purge(LEDGER_STREAM, { filter: ledgerSubject(shard) });
    // One is seen behind the gap; the last one is lost again, and nothing comes after it.
    await transfer(payer.accountId, payee.accountId, 2n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    const seen = await lastSequence();
    await transfer(payer.accountId, payee.accountId, 3n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    await (await streams()).streams.deleteMessage(LEDGER_STREAM, seen + 1);
  } finally {
    process.kill(projector, "SIGCONT");
  }
  await assertProjectionEqualsLedger({ quiet: true });
  const fetched = (await readMetric(stack.health.projector, "ledgermesh_projector_fetched_events_total")) ?? 0;
  assert.ok(fetched > fetchedBefore, "nothing was fetched from the shard");
});

test("the stream deleted under writes comes back, and no event is lost", async () => {
  const load = await startLoad();
  await progress(load, 50);
  await (await streams()).streams.delete(LEDGER_STREAM);
  await progress(load, 200);
  await load.stop();
  await assertProjectionEqualsLedger({ quiet: true });
  assert.ok((await lastSequence()) > 0);
});

test("two relays and two projectors at once publish in order, and one takes over from a dead one", async () => {
  const froms = await Promise.all(shardNumbers.map(headOf));
  const sequence = await lastSequence();
  const [relay, projector] = await Promise.all([
    startService("relay", FURTHER_HEALTH_PORT),
    startService("projector", FURTHER_HEALTH_PORT + 1),
  ]);
  const load = await startLoad();
  await progress(load, 50);
  await Promise.all([kill9("relay"), kill9("projector")]);
  await progress(load, 50);
  // The further ones own the shards now: their end gives them back.
  relay.kill("SIGKILL");
  projector.kill("SIGKILL");
  await progress(load, 50);
  await load.stop();
  for (const shard of shardNumbers) await assertPublished(shard, sequence, froms[shard - 1] as bigint);
  await assertProjectionEqualsLedger({ quiet: true });
});

test("a relay that hangs loses its shards to another within half a minute", async () => {
  const further = await startService("relay", FURTHER_HEALTH_PORT);
  const hanging = pidOf("relay");
  process.kill(hanging, "SIGSTOP");
  try {
    const [payer, payee] = [await openFunded(100n), await openAccount()];
    await transfer(payer.accountId, payee.accountId, 1n);
    await whenProjected(30_000);
  } finally {
    process.kill(hanging, "SIGCONT");
  }
  further.kill("SIGKILL");
  await assertProjectionEqualsLedger({ quiet: true });
});

test("everything in Elasticsearch lost under writes is projected anew from the shards", async () => {
  const load = await startLoad();
  await progress(load, 50);
  const indices = await elasticsearch.indices.get({ index: "entries-*,transfers-*,accounts-*,checkpoints-*" });
  await elasticsearch.indices.delete({ index: Object.keys(indices) });
  await progress(load, 50);
  await load.stop();
  await eventually(
    async () => {
      await assertProjectionEqualsLedger({ quiet: true });
      return true;
    },
    "the projection is whole again",
    90_000,
  );
});
