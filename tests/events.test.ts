import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Client } from "pg";
import { pino } from "pino";
import { shardUrls } from "#infra/local/endpoints.ts";
import { LEDGER_LOG } from "#lib/events.ts";
import type { Logger } from "#lib/log.ts";
import { type Nats, openNats } from "#lib/nats.ts";
import { type AccountDocument, ALIASES, checkpointId, indexName, LIVE_GENERATION } from "#lib/projection.ts";
import { consumerName } from "#services/projector/chunk-reader.ts";
import type { Context } from "#services/projector/context.ts";
import type { ProjectedDocument } from "#services/projector/project.ts";
import { projectShard } from "#services/projector/project-shard.ts";
import { Refresher, refreshIndices } from "#services/projector/refresher.ts";
import { setUpIndices } from "#services/projector/set-up-indices.ts";
import { DocumentWriter } from "#services/projector/write-documents.ts";
import { assertProjectionEqualsLedger, cursorOf, elasticsearch, headOf } from "#tests/projection.ts";
import { eventually, newId, openAccount, openFunded, shardNumbers, stack, stackName, transfer } from "#tests/stack.ts";
import { closeNats, lastSequence, loggedEvents, publishedEvents, streams } from "#tests/stream.ts";

after(async () => {
  await closeNats();
  await elasticsearch.close();
});

async function writeSome(shard: number, transfers: number): Promise<void> {
  const [payer, payee] = [await openFunded(1_000_000n, {}, shard), await openAccount({}, shard)];
  await Promise.all(
    Array.from({ length: transfers }, (_, index) => transfer(payer.accountId, payee.accountId, BigInt(index + 1))),
  );
}

/** What a projector of another generation would work with. */
function contextOf(generation: string, log: Logger, nats: Nats): Context {
  const refresher = new Refresher((indices) => refreshIndices(elasticsearch, indices));
  return { log, nats, elasticsearch, refresher, generation, indexReplicas: 0, waitingFor: new Map() };
}

async function dropGeneration(generation: string): Promise<void> {
  const indices = await elasticsearch.indices.get({ index: `*-${generation}*` });
  await elasticsearch.indices.delete({ index: Object.keys(indices) });
}

test("every event of every shard is published once, in order, as it is in the log", async () => {
  for (const shard of shardNumbers) {
    await eventually(async () => (await cursorOf(shard)) === (await headOf(shard)), "the relay has nothing to do");
    const before = await cursorOf(shard);
    const sequence = await lastSequence();
    await writeSome(shard, 300);
    const last = await headOf(shard);
    // A chunk that was under way at the first look may have come before.
    const published = (await publishedEvents(shard, sequence, last)).filter(
      ({ number }) => BigInt(number) > before && BigInt(number) <= last,
    );
    const logged = await loggedEvents(shard, before, last);
    assert.equal(published.length, Number(last - before));
    for (const [index, expected] of logged.entries()) {
      const { id, source, type, subject, time, number, data } = published[index] as (typeof published)[number];
      assert.deepEqual({ id, source, type, subject, time, number, data }, expected);
    }
  }
});

test("every entry and every transfer is in Elasticsearch exactly once, equal to the ledger's", async () => {
  await Promise.all(shardNumbers.map((shard) => writeSome(shard, 100)));
  await assertProjectionEqualsLedger({ quiet: false });
});

test("two projectors of one shard at once end with the same documents, and one of them steps back", async () => {
  const shard = 1;
  const generation = `t${newId("xfer", 0).slice(5, 20)}`;
  const log = pino({ level: "silent" });
  const nats = openNats(stack.nats, "test", log);
  const ctx = contextOf(generation, log, nats);
  const from = await headOf(shard);
  await setUpIndices(ctx, shard);
  await elasticsearch.index({
    index: indexName("checkpoints", generation),
    id: checkpointId(generation, shard),
    document: { generation, shard, number: from.toString() },
    version: Number(from),
    version_type: "external",
  });

  // Both believe that they own the shard: that is what a lock lost without notice looks like.
  const stopping = new AbortController();
  const stepsBack: string[] = [];
  const stale = async () => {
    const db = new Client({ connectionString: shardUrls(stackName, "projector")[shard - 1] });
    await db.connect();
    while (!stopping.signal.aborted) {
      await projectShard(ctx, shard, { db, signal: stopping.signal }).catch((error) => stepsBack.push(String(error)));
    }
    await db.end();
  };
  const both = [stale(), stale()];
  let last = from;
  const checkpoint = async () => {
    const id = checkpointId(generation, shard);
    const { _source } = await elasticsearch.get<{ number: string }>({
      index: indexName("checkpoints", generation),
      id,
    });
    return BigInt(_source?.number ?? 0);
  };
  // Until they have met at a checkpoint.
  await eventually(async () => {
    await writeSome(shard, 20);
    last = await headOf(shard);
    return stepsBack.some((reason) => reason.includes("another projector moved it"));
  }, "one of the two steps back");
  await eventually(async () => (await checkpoint()) >= last, "both are through");
  stopping.abort();
  await Promise.all(both);

  const list = async (alias: string, target: string) => {
    const { hits } = await elasticsearch.search<object>({
      index: target,
      size: 10_000,
      query: {
        bool: {
          filter: [{ term: { shard } }, { range: { event_number: { gt: from.toString(), lte: last.toString() } } }],
        },
      },
      sort: [{ event_number: "asc" }, ...(alias === ALIASES.entries ? [{ account_id: "asc" as const }] : [])],
    });
    return hits.hits.map(({ _id, _source }) => [_id, _source]);
  };
  await eventually(async () => {
    await assertProjectionEqualsLedger({ quiet: false });
    return true;
  }, "the live projection is there too");
  for (const alias of [ALIASES.entries, ALIASES.transfers]) {
    const documents = await list(alias, `${alias}-${generation}-*`);
    assert.ok(documents.length > 0);
    assert.deepEqual(documents, await list(alias, alias));
  }

  await (await streams()).consumers.delete(LEDGER_LOG.stream, consumerName(generation, shard));
  await dropGeneration(generation);
  await nats.close();
});

test("a document that Elasticsearch refuses for good becomes a hole, and what it refuses for now waits", async () => {
  const generation = `t${newId("xfer", 0).slice(5, 20)}`;
  const [log, shard] = [pino({ level: "silent" }), 1];
  const nats = openNats(stack.nats, "test", log);
  const ctx = contextOf(generation, log, nats);
  await setUpIndices(ctx, shard);
  const account = (id: string, more: object = {}): ProjectedDocument => ({
    family: "accounts",
    month: undefined,
    id,
    version: 1n,
    source: { account_id: id, shard, event_number: "7", ...more } as unknown as AccountDocument,
  });
  const writer = new DocumentWriter(ctx, shard, AbortSignal.timeout(60_000));
  await writer.write([account("one"), account("two", { shoe_size: 43 }), account("three", { version: "many" })]);
  await writer.recordHole(8n, "nobody knows this event");

  // As when the disk is nearly full.
  const accounts = indexName("accounts", generation);
  await elasticsearch.indices.putSettings({ index: accounts, settings: { "index.blocks.write": true } });
  let written = false;
  const waiting = writer.write([account("four")]).then(() => {
    written = true;
  });
  await eventually(() => ctx.waitingFor.get(shard) === "Elasticsearch takes no documents", "it waits and says so");
  assert.equal(written, false);
  await elasticsearch.indices.putSettings({ index: accounts, settings: { "index.blocks.write": false } });
  await waiting;

  await writer.refresh();
  const ids = async (index: string) => {
    const { hits } = await elasticsearch.search({ index });
    return hits.hits.map(({ _id }) => _id).sort();
  };
  assert.deepEqual(await ids(accounts), ["four", "one"]);
  assert.deepEqual(await ids(indexName("holes", generation)), ["1-7-three", "1-7-two", "1-8-"]);
  await dropGeneration(generation);
  await nats.close();
});

test("a checkpoint never goes back", async () => {
  const [shard] = shardNumbers as [number];
  await writeSome(shard, 1);
  await eventually(async () => {
    const stale = elasticsearch.index({
      index: ALIASES.checkpoints,
      id: checkpointId(LIVE_GENERATION, shard),
      document: { generation: LIVE_GENERATION, shard, number: "0" },
      version: 0,
      version_type: "external",
    });
    await assert.rejects(stale, { statusCode: 409 });
    return true;
  }, "the stale checkpoint is refused");
});

test("no index of ours makes itself", async () => {
  const index = indexName("entries", LIVE_GENERATION, "1900.01");
  await assert.rejects(elasticsearch.index({ index, document: {} }), { statusCode: 404 });
});
