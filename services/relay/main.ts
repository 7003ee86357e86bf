import { jetstream } from "@nats-io/jetstream";
import { EVENT_LOGS } from "#lib/events.ts";
import { openNats } from "#lib/nats.ts";
import { runService } from "#lib/service.ts";
import { ownShard, RELAY_LOCKS } from "#lib/shard-owner.ts";
import { config } from "#services/relay/config.ts";
import type { Context } from "#services/relay/context.ts";
import { relayShard } from "#services/relay/relay-shard.ts";

/**
 * The relay: from the event logs of every shard to JetStream. It may run many times; one is active per shard and log. The logs
 * share nothing but the process: each has its own connection, round and stream.
 */
const { shards, natsUrl, healthPort, streamReplicas } = config();

await runService("relay", healthPort, async (log) => {
  const nats = openNats(natsUrl, "relay", log);
  const ctx: Context = {
    log,
    nats,
    jetStream: nats.opened.then((connection) => jetstream(connection)),
    streamReplicas,
  };
  const owners = EVENT_LOGS.flatMap((eventLog) =>
    shards.map((connectionString, index) =>
      ownShard({
        shard: index + 1,
        connectionString,
        lock: RELAY_LOCKS[eventLog.name],
        name: `relay of ${eventLog.name}`,
        log: log.child({ log: eventLog.name }),
        work: (ownership) => relayShard(ctx, eventLog, index + 1, ownership),
      }),
    ),
  );
  return {
    notReady: () => {
      if (!nats.connected()) return "NATS does not answer";
      return owners.map((owner) => owner.notReady()).find((reason) => reason !== undefined);
    },
    stop: async () => {
      await Promise.all(owners.map((owner) => owner.stop()));
      await nats.close();
    },
  };
});
