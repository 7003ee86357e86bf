import assert from "node:assert/strict";
import { after, test } from "node:test";
import { eventSubject, LEDGER_LOG } from "#lib/events.ts";
import { LIVE_GENERATION } from "#lib/projection.ts";
import { consumerName } from "#services/projector/chunk-reader.ts";
import { assertProjectionEqualsLedger, cursorOf, elasticsearch, headOf, whenProjected } from "#tests/projection.ts";
import { readMetric, startService } from "#tests/service-process.ts";
import { eventually, kill9, openAccount, openFunded, pidOf, shardNumbers, stack, transfer } from "#tests/stack.ts";
import { assertPublished, closeNats, lastSequence, streams } from "#tests/stream.ts";
import { progress, startLoad } from "#tests/write-load.ts";

/** The same when something is lost for good, when two of a kind are at work, and when one hangs. */
after(async () => {
  await closeNats();
  await elasticsearch.close();
});

test("what JetStream lost is fetched from the shard, a last chunk too", async () => {
  const [shard] = shardNumbers as [number];
  const froms = await whenProjected();
  const fetchedBefore = (await readMetric(stack.health.projector, "ledgermesh_projector_fetched_events_total")) ?? 0;
  const [payer, payee] = [await openFunded(1_000_000n, {}, shard), await openAccount({}, shard)];
  const projector = pidOf("projector");
  process.kill(projector, "SIGSTOP");
  try {
    // Until there are chunks that the projector has not asked for yet; then they are all gone.
    const pending = async () => {
      const manager = await streams();
      return (await manager.consumers.info(LEDGER_LOG.stream, consumerName(LIVE_GENERATION, shard))).num_pending;
    };
    while ((await pending()) < 5) await transfer(payer.accountId, payee.accountId, 1n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    await (await streams()).streams.purge(LEDGER_LOG.stream, { filter: eventSubject(LEDGER_LOG, shard) });
    // One is seen behind the gap; the last one is lost again, and nothing comes after it.
    await transfer(payer.accountId, payee.accountId, 2n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    const seen = await lastSequence();
    await transfer(payer.accountId, payee.accountId, 3n);
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "all is published");
    await (await streams()).streams.deleteMessage(LEDGER_LOG.stream, seen + 1);
  } finally {
    process.kill(projector, "SIGCONT");
  }
  await assertProjectionEqualsLedger({ quiet: true, after: froms });
  const fetched = (await readMetric(stack.health.projector, "ledgermesh_projector_fetched_events_total")) ?? 0;
  assert.ok(fetched > fetchedBefore, "nothing was fetched from the shard");
});

test("the stream deleted under writes comes back, and no event is lost", async () => {
  const froms = await Promise.all(shardNumbers.map(headOf));
  const load = await startLoad();
  await progress(load, 50);
  await (await streams()).streams.delete(LEDGER_LOG.stream);
  await progress(load, 200);
  await load.stop();
  await assertProjectionEqualsLedger({ quiet: true, after: froms });
  assert.ok((await lastSequence()) > 0);
});

test("two relays and two projectors at once publish in order, and one takes over from a dead one", async () => {
  const froms = await Promise.all(shardNumbers.map(headOf));
  const sequence = await lastSequence();
  const [relay, projector] = await Promise.all([startService("relay"), startService("projector")]);
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
  await assertProjectionEqualsLedger({ quiet: true, after: froms });
});

test("a relay that hangs loses its shards to another within half a minute", async () => {
  const froms = await whenProjected();
  const further = await startService("relay");
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
  await assertProjectionEqualsLedger({ quiet: true, after: froms });
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
