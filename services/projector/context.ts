import type { Elasticsearch } from "#lib/elasticsearch.ts";
import type { Logger } from "#lib/log.ts";
import type { Nats } from "#lib/nats.ts";
import type { Refresher } from "#services/projector/refresher.ts";

/** What the work on every shard shares; built once in main.ts. */
export interface Context {
  readonly log: Logger;
  readonly nats: Nats;
  readonly elasticsearch: Elasticsearch;
  readonly refresher: Refresher;
  /** Of the indices that are written. */
  readonly generation: string;
  readonly indexReplicas: number;
  /** What the work on each shard waits for at the moment; no entry when for nothing. */
  readonly waitingFor: Map<number, string>;
}
