import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import type { EventLog } from "#lib/events.ts";

const NANOSECONDS_PER_SECOND = 1_000_000_000;
/** Some millions of transfers. A consumer that was away for longer fetches from the shards. */
const MAX_BYTES = 1024 ** 3;
const MAX_AGE_NS = 3 * 24 * 3600 * NANOSECONDS_PER_SECOND;
/** Publishing the same chunk again within this time stores it once. */
const DUPLICATE_WINDOW_NS = 120 * NANOSECONDS_PER_SECOND;

/** Creates the stream of a log's events or brings it to this definition; safe to repeat, and when two do it at once. */
export async function ensureStream(manager: JetStreamManager, log: EventLog, replicas: number): Promise<void> {
  const definition = {
    subjects: [`${log.name}.events.*`],
    description: `Events of every ${log.name} shard, in chunks. Postgres can fill it again.`,
    max_bytes: MAX_BYTES,
    max_age: MAX_AGE_NS,
    discard: DiscardPolicy.Old,
    duplicate_window: DUPLICATE_WINDOW_NS,
    num_replicas: replicas,
  };
  try {
    await manager.streams.update(log.stream, definition);
  } catch (error) {
    if (!(error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound)) throw error;
    const forEver = { name: log.stream, retention: RetentionPolicy.Limits, storage: StorageType.File };
    await manager.streams.add({ ...definition, ...forEver });
  }
}
