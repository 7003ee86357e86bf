import { Counter, Gauge } from "prom-client";

export const publishedEvents = new Counter({
  name: "ledgermesh_relay_published_events_total",
  help: "Events acknowledged by JetStream.",
  labelNames: ["log", "shard"],
});

export const publishedChunks = new Counter({
  name: "ledgermesh_relay_published_chunks_total",
  help: "Chunks (JetStream messages) acknowledged by JetStream.",
  labelNames: ["log", "shard"],
});

/** Known by the owner of the shard only. */
export const lagEvents = new Gauge({
  name: "ledgermesh_relay_lag_events",
  help: "Events committed on the shard and not yet acknowledged by JetStream.",
  labelNames: ["log", "shard"],
});

export const sealedEvents = new Counter({
  name: "ledgermesh_relay_sealed_events_total",
  help: "Events sealed into the shard's hash chain.",
  labelNames: ["log", "shard"],
});

/** Known by the owner of the shard only. */
export const unsealedEvents = new Gauge({
  name: "ledgermesh_relay_unsealed_events",
  help: "Events committed on the shard and not yet sealed.",
  labelNames: ["log", "shard"],
});

/** Anything above 0 is worth waking somebody. */
export const alteredEvents = new Counter({
  name: "ledgermesh_relay_altered_events_total",
  help: "Events that came again and were not as they had been sealed.",
  labelNames: ["log", "shard"],
});

/** Known by the owner of the shard only. */
export const sealingHeldUp = new Gauge({
  name: "ledgermesh_relay_sealing_held_up",
  help: "1 while an event is missing, so that no later one can be sealed.",
  labelNames: ["log", "shard"],
});
