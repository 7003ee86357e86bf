import { Client } from "pg";
import type { Logger } from "#lib/log.ts";
import { type BucketMap, readBucketMap } from "#lib/shards.ts";

const CONNECT_TIMEOUT_MS = 2_000;

/** The bucket map, from the first shard that answers. Throws when none does. */
export async function readMap(shards: readonly string[], log: Logger): Promise<BucketMap> {
  for (const [index, connectionString] of shards.entries()) {
    const db = new Client({ connectionString, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
    try {
      await db.connect();
      return (await readBucketMap(db)).map;
    } catch (error) {
      log.warn({ shard: index + 1, error: String(error) }, "the shard did not tell its bucket map");
    } finally {
      await db.end().catch(() => {});
    }
  }
  throw new Error("no shard answers");
}
