import { DatabaseError, type QueryArrayConfig } from "pg";
import { shardOfBucket } from "#lib/shards.ts";
import type { Context } from "#services/ledger/context.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { isConnectionLost } from "#services/ledger/shard.ts";

/** Rows of one statement on the shard of a bucket. Throws SHARD_UNAVAILABLE when the shard does not answer. */
export async function readShard<Row extends unknown[]>(
  ctx: Context,
  bucket: number,
  query: Omit<QueryArrayConfig, "rowMode">,
): Promise<Row[]> {
  const { shard } = ctx.shardOf(shardOfBucket(ctx.map, bucket));
  try {
    const { rows } = await shard.reads.query<Row>({ ...query, rowMode: "array" });
    return rows;
  } catch (error) {
    if (error instanceof DatabaseError && !isConnectionLost(error)) throw error;
    ctx.log.warn({ shard: shard.number, error: String(error) }, "a read failed");
    throw refusals.shardUnavailable(shard.number);
  }
}
