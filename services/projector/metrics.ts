import { Counter, Gauge, Histogram } from "prom-client";

/** Gauges are known by the owner of the shard only. */
export const positionNumber = new Gauge({
  name: "ledgermesh_projector_position",
  help: "Number of the last event of the shard that is visible in Elasticsearch.",
  labelNames: ["shard"],
});

export const lagEvents = new Gauge({
  name: "ledgermesh_projector_lag_events",
  help: "Events committed on the shard and not yet visible in Elasticsearch.",
  labelNames: ["shard"],
});

export const visibleAfterSeconds = new Histogram({
  name: "ledgermesh_projector_visible_after_seconds",
  help: "From the posting of a transfer to its visibility in Elasticsearch.",
  labelNames: ["shard"],
  buckets: [0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 600, 3600],
});

export const writtenDocuments = new Counter({
  name: "ledgermesh_projector_written_documents_total",
  help: "Documents that Elasticsearch accepted, or had newer already.",
  labelNames: ["shard"],
});

export const fetchedEvents = new Counter({
  name: "ledgermesh_projector_fetched_events_total",
  help: "Events fetched from the shard's Postgres because they did not come over JetStream.",
  labelNames: ["shard"],
});

export const holes = new Counter({
  name: "ledgermesh_projector_holes_total",
  help: "Documents refused for good, and events that no document could be made of.",
  labelNames: ["shard"],
});
