import type { Elasticsearch } from "#lib/elasticsearch.ts";

/**
 * What the projector writes to Elasticsearch and the reporting service reads: names, documents, checkpoints.
 *
 * Every index belongs to a generation, and readers go through aliases: a rebuild writes a new generation beside the live
 * one and then moves the aliases. In which index a document is depends only on what never changes of it.
 *
 * A shard's checkpoint says up to which event number its documents are complete and visible to searches. Every document
 * carries shard and number of the event that made it, so `number <= checkpoint` selects a set that grows only with the
 * checkpoint: that keeps pages stable.
 */

/** Of the indices that the aliases point to. */
export const LIVE_GENERATION = "g1";

export const ALIASES = {
  entries: "entries",
  transfers: "transfers",
  accounts: "accounts",
  checkpoints: "checkpoints",
  /** Documents that Elasticsearch refused for good, and events that no document could be made of. */
  holes: "projection-holes",
} as const;

export type Family = keyof typeof ALIASES;

/** Entries and transfers by month, such as `entries-g1-2026.11`; the others have one index. */
export function indexName(family: Family, generation: string, month?: string): string {
  return month === undefined ? `${ALIASES[family]}-${generation}` : `${ALIASES[family]}-${generation}-${month}`;
}

/** Decimal text of an int64: indexed as `long`, answered from `_source` with every digit. */
export type Int64Text = string;
/** RFC 3339, UTC, milliseconds. */
export type TimeText = string;

/** Id `<account_id>:<sequence>`; never changes. */
export interface EntryDocument {
  readonly account_id: string;
  readonly sequence: Int64Text;
  readonly transfer_id: string;
  readonly posting_index: number;
  readonly amount_minor_units: Int64Text;
  readonly balance_after_minor_units: Int64Text;
  readonly currency: string;
  readonly type: string;
  readonly memo: string;
  readonly counterparty_account_id: string;
  readonly post_time: TimeText;
  readonly effective_time: TimeText;
  readonly shard: number;
  readonly event_number: Int64Text;
}

/** Id is the transfer's; version is that of the transfer. */
export interface TransferDocument {
  readonly transfer_id: string;
  /** The name of a Transfer.State. */
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly postings: readonly {
    readonly debit_account_id: string;
    readonly credit_account_id: string;
    readonly amount_minor_units: Int64Text;
    readonly currency: string;
  }[];
  /** Every account of the postings. */
  readonly account_ids: readonly string[];
  readonly post_time: TimeText;
  readonly effective_time: TimeText;
  readonly shard: number;
  /** Of the event that posted it, in every later version too: pages depend on it. */
  readonly event_number: Int64Text;
}

/** Id is the account's; version is that of the account. */
export interface AccountDocument {
  readonly account_id: string;
  readonly version: Int64Text;
  readonly owner_id: string;
  readonly currency: string;
  /** The name of an Account.Kind. */
  readonly kind: string;
  /** The name of an Account.Status. */
  readonly status: string;
  readonly posted_minor_units: Int64Text;
  readonly held_minor_units: Int64Text;
  /** Null: unbounded. */
  readonly floor_minor_units: Int64Text | null;
  readonly reference: string;
  readonly shard: number;
  /** Of the event of this version. */
  readonly event_number: Int64Text;
}

/** Id `<generation>-<shard>`; its version is its number, so it can only rise. */
export interface CheckpointDocument {
  readonly generation: string;
  readonly shard: number;
  readonly number: Int64Text;
}

export function checkpointId(generation: string, shard: number): string {
  return `${generation}-${shard}`;
}

/** How many shards a system may have at most: as many as there are pinned buckets. */
const MAX_SHARDS = 256;

/**
 * Shard to number, for those of the ids that exist in the index (or alias). Realtime: sees a checkpoint as soon as it is
 * written.
 */
export async function readCheckpoints(
  client: Elasticsearch,
  index: string,
  ids: readonly string[],
): Promise<Map<number, bigint>> {
  const numbers = new Map<number, bigint>();
  if (ids.length === 0) return numbers;
  const { docs } = await client.mget<CheckpointDocument>({ index, ids: [...ids] });
  for (const doc of docs) {
    if ("error" in doc) throw new Error(`the checkpoint ${doc._id} cannot be read: ${doc.error.type}`);
    if (doc._source !== undefined) numbers.set(doc._source.shard, BigInt(doc._source.number));
  }
  return numbers;
}

/** The ids of all checkpoints of the live generation. Not realtime: misses a shard added within the last seconds. */
export async function listCheckpointIds(client: Elasticsearch): Promise<string[]> {
  const { hits } = await client.search({ index: ALIASES.checkpoints, size: MAX_SHARDS, _source: false });
  return hits.hits.map(({ _id }) => _id as string);
}
