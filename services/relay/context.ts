import type { JetStreamClient } from "@nats-io/jetstream";
import type { Logger } from "#lib/log.ts";
import type { Nats } from "#lib/nats.ts";

/** What the work on every shard shares; built once in main.ts. */
export interface Context {
  readonly log: Logger;
  readonly nats: Nats;
  /** Resolves when NATS was reached for the first time. */
  readonly jetStream: Promise<JetStreamClient>;
  readonly streamReplicas: number;
}
