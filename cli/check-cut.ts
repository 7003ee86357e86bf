import type { ShardReader } from "#cli/check-database.ts";
import { BUCKET_COUNT, parseId } from "#lib/ids.ts";
import { type BucketMap, shardOfBucket } from "#lib/shards.ts";

/** A shard at one instant. */
export interface Cut {
  readonly shard: number;
  readonly head: bigint;
  readonly lastEvent: bigint;
  readonly publishedTo: bigint;
  readonly accounts: number;
  /** By what the accounts say. */
  readonly entries: number;
  readonly transit: readonly TransitAccount[];
  /** 1, 2, … by bucket. */
  readonly shardOf: readonly number[];
  readonly shardCount: number;
}

interface TransitAccount {
  readonly uuid: string;
  readonly currency: string;
  readonly postedMinorUnits: bigint;
}

export async function readCut(reader: ShardReader): Promise<Cut> {
  const [row] = await reader.ask<{
    shard: number;
    map_version: number;
    head: string;
    last_event: string;
    published_to: string | null;
    accounts: string;
    entries: string;
    transit: { account_id: string; currency: string; posted: string }[] | null;
    ranges: { first: number; last: number; shard: number }[] | null;
  }>({
    text: `select h.shard, h.map_version, h.sequence as head, coalesce((select max(number) from ledger.events), 0) as last_event,
                  (select number from relay.cursor c where c.shard = h.shard) as published_to,
                  (select count(*) from ledger.accounts) as accounts,
                  (select coalesce(sum(entry_sequence), 0) from ledger.accounts) as entries,
                  (select json_agg(json_build_object('account_id', account_id, 'currency', currency, 'posted', posted_minor_units::text))
                     from ledger.accounts where reference = 'system:transit') as transit,
                  (select json_agg(json_build_object('first', first_bucket, 'last', last_bucket, 'shard', m.shard))
                     from ledger.bucket_map m where m.map_version = h.map_version) as ranges
             from ledger.shard_head h`,
  });
  if (row === undefined || row.ranges === null)
    throw new Error("the database has no shard head: is it a shard, migrated?");
  const map: BucketMap = {
    version: row.map_version,
    ranges: row.ranges.map(({ first, last, shard }) => ({ firstBucket: first, lastBucket: last, shard })),
  };
  return {
    shard: row.shard,
    head: BigInt(row.head),
    lastEvent: BigInt(row.last_event),
    publishedTo: BigInt(row.published_to ?? 0),
    accounts: Number(row.accounts),
    entries: Number(row.entries),
    transit: (row.transit ?? []).map(({ account_id, currency, posted }) => ({
      uuid: account_id,
      currency,
      postedMinorUnits: BigInt(posted),
    })),
    shardOf: Array.from({ length: BUCKET_COUNT }, (_, bucket) => shardOfBucket(map, bucket)),
    shardCount: new Set(map.ranges.map(({ shard }) => shard)).size,
  };
}

const MAX_CACHED_IDS = 20_000;

/** Of what is no id: nothing has it. */
const NO_UUID = "00000000-0000-0000-0000-000000000000";

/** UUIDs of ids: the same accounts come again and again. */
export function uuidCache(): (id: string) => string {
  const known = new Map<string, string>();
  return (id) => {
    let uuid = known.get(id);
    if (uuid === undefined) {
      uuid = parseId(id)?.uuid ?? NO_UUID;
      if (known.size >= MAX_CACHED_IDS) known.clear();
      known.set(id, uuid);
    }
    return uuid;
  };
}
