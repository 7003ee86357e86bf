import type { Pool } from "pg";
import type { StoredEvent } from "#lib/events.ts";

/** Reading a shard's events and seals for an audit, in pages, the next of them on its way while one is looked at. */

export const PAGE_EVENTS = 1_000;
const PAGE_BYTES = 4 * 1024 * 1024;
/** Of at most 32 KB each. */
const PAGE_SEALS = 50;

/** Where log and seals end at one instant. What comes later is left to the next audit: nothing has to be held open. */
export interface LogEnd {
  readonly shard: number;
  /** As many shards are in the bucket map. */
  readonly shardCount: number;
  /** What the shard's head says is the last event. */
  readonly head: bigint;
  /** Number of the last event that is there; 0: none is. */
  readonly lastEvent: bigint;
  /** Number of the last event with a seal; 0: none has. */
  readonly sealedTo: bigint;
  readonly publishedTo: bigint;
  /** Events up to here were published before they were sealed. */
  readonly publishedUnsealedTo: bigint;
}

export async function readLogEnd(db: Pool): Promise<LogEnd> {
  const { rows } = await db.query<Record<keyof LogEnd, string>>(
    `select h.shard, h.sequence as head,
            (select count(distinct shard) from ledger.bucket_map m where m.map_version = h.map_version) as "shardCount",
            coalesce((select max(number) from ledger.events), 0) as "lastEvent",
            coalesce((select max(last_number) from relay.seals), 0) as "sealedTo",
            c.number as "publishedTo", c.number_before_seals as "publishedUnsealedTo"
       from ledger.shard_head h left join relay.cursor c on c.shard = h.shard`,
  );
  const [row] = rows;
  if (row === undefined) throw new Error("the database has no shard head: is it a shard, migrated?");
  return {
    shard: Number(row.shard),
    shardCount: Number(row.shardCount),
    head: BigInt(row.head),
    lastEvent: BigInt(row.lastEvent),
    sealedTo: BigInt(row.sealedTo),
    publishedTo: BigInt(row.publishedTo ?? 0),
    publishedUnsealedTo: BigInt(row.publishedUnsealedTo ?? 0),
  };
}

/** How long ago the first event after a number was written, in milliseconds of the database's clock; 0 when there is none. */
export async function ageOfFirstEventAfterMs(db: Pool, number: bigint): Promise<number> {
  const { rows } = await db.query<{ age_ms: string }>(
    `select 1000 * extract(epoch from clock_timestamp() - occurred_at) as age_ms
       from ledger.events where number > $1 order by number limit 1`,
    [number.toString()],
  );
  return Math.max(0, Math.round(Number(rows[0]?.age_ms ?? 0)));
}

interface EventPage {
  readonly events: readonly StoredEvent[];
  /** Where the next page begins. */
  readonly after: readonly [number: string, occurredAt: string] | undefined;
}

/** All events up to a number by number and time, page by page: also those that stand under one number several times. */
export async function* readEventPages(db: Pool, lastNumber: bigint): AsyncGenerator<readonly StoredEvent[]> {
  const first = ["-9223372036854775808", "-infinity"] as const;
  let next: Promise<EventPage> | undefined = readEventPage(db, first, lastNumber);
  while (next !== undefined) {
    const { events, after }: EventPage = await next;
    next = after === undefined ? undefined : readAhead(readEventPage(db, after, lastNumber));
    yield events;
  }
}

async function readEventPage(
  db: Pool,
  after: readonly [number: string, occurredAt: string],
  lastNumber: bigint,
): Promise<EventPage> {
  const { rows } = await db.query<[string, string, number, string, string, string, number, string, string]>({
    name: "audit-events",
    text: `select number, occurred_at::text, bucket, aggregate_id, aggregate_version, type, schema_version, payload,
                  to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
             from (select *, sum(octet_length(payload)) over (order by number, occurred_at rows unbounded preceding)
                               - octet_length(payload) as bytes_before
                     from (select * from ledger.events
                            where (number, occurred_at) > ($1::bigint, $2::timestamptz) and number <= $3
                            order by number, occurred_at limit $4) e) e
            where bytes_before < $5 order by number, occurred_at`,
    values: [...after, lastNumber.toString(), PAGE_EVENTS, PAGE_BYTES],
    rowMode: "array",
  });
  const last = rows.at(-1);
  return {
    events: rows.map(([number, , bucket, aggregateId, aggregateVersion, type, schemaVersion, payload, occurredAt]) => ({
      number: BigInt(number),
      bucket,
      aggregateId,
      aggregateVersion: BigInt(aggregateVersion),
      type,
      schemaVersion,
      payload,
      occurredAt,
    })),
    after: last === undefined ? undefined : [last[0], last[1]],
  };
}

export interface Seal {
  readonly first: bigint;
  readonly last: bigint;
  readonly format: number;
  readonly eventHashes: Buffer;
  readonly chainHash: Buffer;
}

/** All seals that end at a number or before it, by their first number. */
export async function* readSeals(db: Pool, lastNumber: bigint): AsyncGenerator<Seal> {
  let next: Promise<Seal[]> | undefined = readSealPage(db, undefined, lastNumber);
  while (next !== undefined) {
    const seals: Seal[] = await next;
    const after = seals.at(-1)?.first;
    next = after === undefined ? undefined : readAhead(readSealPage(db, after, lastNumber));
    yield* seals;
  }
}

async function readSealPage(db: Pool, after: bigint | undefined, lastNumber: bigint): Promise<Seal[]> {
  const { rows } = await db.query<{
    first_number: string;
    last_number: string;
    format: number;
    event_hashes: Buffer;
    chain_hash: Buffer;
  }>({
    name: "audit-seals",
    text: `select first_number, last_number, format, event_hashes, chain_hash from relay.seals
            where ($1::bigint is null or first_number > $1) and last_number <= $2 order by first_number limit $3`,
    values: [after?.toString(), lastNumber.toString(), PAGE_SEALS],
  });
  return rows.map(({ first_number, last_number, format, event_hashes, chain_hash }) => ({
    first: BigInt(first_number),
    last: BigInt(last_number),
    format,
    eventHashes: event_hashes,
    chainHash: chain_hash,
  }));
}

/** A failure is told to whoever takes the page; until then it is nobody's unhandled one. */
function readAhead<Page>(page: Promise<Page>): Promise<Page> {
  page.catch(() => {});
  return page;
}
