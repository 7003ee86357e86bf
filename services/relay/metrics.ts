import { Counter, Gauge } from "prom-client";

export const publishedEvents = new Counter({
  name: "ledgermesh_relay_published_events_total",
  help: "Events acknowledged by JetStream.",
  labelNames: ["shard"],
});

export const publishedChunks = new Counter({
  name: "ledgermesh_relay_published_chunks_total",
  help: "Chunks (JetStream messages) acknowledged by JetStream.",
  labelNames: ["shard"],
});

/** Known by the owner of the shard only. */
export const lagEvents = new Gauge({
  name: "ledgermesh_relay_lag_events",
  help: "Events committed on the shard and not yet acknowledged by JetStream.",
  labelNames: ["shard"],
});
