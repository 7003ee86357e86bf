import { openElasticsearch } from "#lib/elasticsearch.ts";
import { openNats } from "#lib/nats.ts";
import { LIVE_GENERATION } from "#lib/projection.ts";
import { runService } from "#lib/service.ts";
import { ownShard, PROJECTOR_LOCK } from "#lib/shard-owner.ts";
import { config } from "#services/projector/config.ts";
import type { Context } from "#services/projector/context.ts";
import { projectShard } from "#services/projector/project-shard.ts";
import { Refresher, refreshIndices } from "#services/projector/refresher.ts";

/** The projector: from JetStream (and, for what is missing there, from the shards) to Elasticsearch. May run many times. */
const { shards, natsUrl, elasticsearchUrl, healthPort, indexReplicas } = config();
const REQUEST_TIMEOUT_MS = 30_000;

await runService("projector", healthPort, async (log) => {
  const nats = openNats(natsUrl, "projector", log);
  const elasticsearch = openElasticsearch(elasticsearchUrl, REQUEST_TIMEOUT_MS);
  const ctx: Context = {
    log,
    nats,
    elasticsearch,
    refresher: new Refresher((indices) => refreshIndices(elasticsearch, indices)),
    generation: LIVE_GENERATION,
    indexReplicas,
    waitingFor: new Map(),
  };
  const owners = shards.map((connectionString, index) =>
    ownShard({
      shard: index + 1,
      connectionString,
      lock: PROJECTOR_LOCK,
      name: "projector",
      log,
      work: (ownership) => projectShard(ctx, index + 1, ownership),
    }),
  );
  return {
    notReady: () => {
      if (!nats.connected()) return "NATS does not answer";
      const [waitingFor] = ctx.waitingFor.values();
      return waitingFor ?? owners.map((owner) => owner.notReady()).find((reason) => reason !== undefined);
    },
    stop: async () => {
      await Promise.all(owners.map((owner) => owner.stop()));
      await elasticsearch.close();
      await nats.close();
    },
  };
});
