import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { type Elasticsearch, openElasticsearch } from "#lib/elasticsearch.ts";
import { ALIASES, checkpointId, LIVE_GENERATION, readCheckpoints } from "#lib/projection.ts";

/** What must hold of the history: everything that Postgres has, once. */

const REQUEST_TIMEOUT_MS = 30_000;
const POLL_MS = 250;
const SAY_EVERY_MS = 5_000;
const IDS_PER_QUERY = 1_000;

/** Waits until all events of all shards are visible; throws when that takes too long. @returns how many there were to do */
export async function waitUntilProjected(
  elasticsearchUrl: string,
  shards: readonly string[],
  withinMs: number,
  say: (line: string) => void,
): Promise<bigint> {
  const client = openElasticsearch(elasticsearchUrl, REQUEST_TIMEOUT_MS);
  try {
    const heads = await Promise.all(shards.map(readHead));
    const ids = shards.map((_, index) => checkpointId(LIVE_GENERATION, index + 1));
    const startedMs = Date.now();
    let saidMs = startedMs;
    let first: bigint | undefined;
    for (;;) {
      const reached = await readCheckpoints(client, ALIASES.checkpoints, ids).catch(() => new Map<number, bigint>());
      const behind = heads.reduce((sum, head, index) => sum + head - (reached.get(index + 1) ?? 0n), 0n);
      first ??= behind;
      if (behind === 0n) return first;
      if (Date.now() - startedMs > withinMs)
        throw new Error(`${behind} events are not in the history after all this time`);
      if (Date.now() - saidMs > SAY_EVERY_MS) {
        saidMs = Date.now();
        say(`  the history is ${behind} events behind`);
      }
      await sleep(POLL_MS);
    }
  } finally {
    await client.close();
  }
}

/** Throws when Elasticsearch holds another number of transfers or entries than Postgres, or misses one of `transferIds`. */
export async function checkHistory(
  elasticsearchUrl: string,
  shards: readonly string[],
  transferIds: readonly string[],
): Promise<void> {
  const client = openElasticsearch(elasticsearchUrl, REQUEST_TIMEOUT_MS);
  try {
    for (const family of ["transfers", "entries"] as const) {
      const inPostgres = await countRows(shards, family);
      const { count } = await client.count({ index: ALIASES[family] });
      if (count !== inPostgres) throw new Error(`${inPostgres} ${family} in Postgres, ${count} in the history`);
    }
    for (let from = 0; from < transferIds.length; from += IDS_PER_QUERY) {
      await checkPresent(client, transferIds.slice(from, from + IDS_PER_QUERY));
    }
  } finally {
    await client.close();
  }
}

async function checkPresent(client: Elasticsearch, transferIds: readonly string[]): Promise<void> {
  const ids = [...transferIds];
  const transfers = await client.count({ index: ALIASES.transfers, query: { ids: { values: ids } } });
  const entries = await client.count({ index: ALIASES.entries, query: { terms: { transfer_id: ids } } });
  if (transfers.count !== ids.length || entries.count !== 2 * ids.length) {
    throw new Error(
      `of ${ids.length} transfers the history has ${transfers.count}, and ${entries.count} entries of them`,
    );
  }
}

async function readHead(shard: string): Promise<bigint> {
  return BigInt(await readValue(shard, "select sequence as value from ledger.shard_head"));
}

async function countRows(shards: readonly string[], table: "transfers" | "entries"): Promise<number> {
  const counts = await Promise.all(
    shards.map((shard) => readValue(shard, `select count(*) as value from ledger.${table}`)),
  );
  return counts.reduce((sum, count) => sum + Number(count), 0);
}

async function readValue(shard: string, query: string): Promise<string> {
  const db = new Client({ connectionString: shard });
  await db.connect();
  try {
    const { rows } = await db.query<{ value: string }>(query);
    return String(rows[0]?.value);
  } finally {
    await db.end();
  }
}
