import { after, test } from "node:test";
import { assertProjectionEqualsLedger, elasticsearch, headOf } from "#tests/projection.ts";
import { kill9, shardNumbers } from "#tests/stack.ts";
import { assertPublished, closeNats, lastSequence } from "#tests/stream.ts";
import { progress, startLoad } from "#tests/write-load.ts";

/**
 * The road from a commit to Elasticsearch under crashes, with writes going on. Afterwards everything that is committed is
 * there exactly once and equal.
 */
after(async () => {
  await closeNats();
  await elasticsearch.close();
});

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
    await assertProjectionEqualsLedger({ quiet: true, after: froms });
  });
}

test("kill -9 of the relay again and again, and of the projector, loses no event and doubles no entry", async () => {
  const froms = await Promise.all(shardNumbers.map(headOf));
  const load = await startLoad();
  for (let round = 0; round < 3; round += 1) {
    for (const part of ["relay", "projector"]) {
      await progress(load, 20);
      await kill9(part);
    }
  }
  await progress(load, 20);
  await load.stop();
  await assertProjectionEqualsLedger({ quiet: true, after: froms });
});
