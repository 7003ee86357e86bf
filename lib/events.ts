import type { ClientBase, Pool } from "pg";

/**
 * Events on their way from a shard's log (a table such as `ledger.events`, the truth) over JetStream (the transport) to
 * consumers. One JetStream message is one chunk: consecutive events of one log of one shard, as a CloudEvents 1.0 batch in JSON
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#4-json-batch-format).
 */

/** A log that every shard has. Each is numbered, published and sealed by itself. */
export interface EventLog {
  /** The schema of its tables `events` and `shard_head`, and what its subjects and types begin with. */
  readonly name: "ledger" | "identity";
  /** The stream of all shards' chunks. Postgres can fill it again, so it is bounded and old chunks fall out. */
  readonly stream: string;
  /** How far JetStream has it, and its seals. */
  readonly cursorTable: string;
  readonly sealsTable: string;
}

export const LEDGER_LOG: EventLog = {
  name: "ledger",
  stream: "LEDGER_EVENTS",
  cursorTable: "relay.cursor",
  sealsTable: "relay.seals",
};
export const IDENTITY_LOG: EventLog = {
  name: "identity",
  stream: "IDENTITY_EVENTS",
  cursorTable: "relay.identity_cursor",
  sealsTable: "relay.identity_seals",
};
/** All of them: what the relay publishes. */
export const EVENT_LOGS: readonly EventLog[] = [LEDGER_LOG, IDENTITY_LOG];

/** Where a shard's chunks are published. */
export const eventSubject = (log: EventLog, shard: number): string => `${log.name}.events.${shard}`;
/** Plain NATS, no payload, may be lost: "something was committed on this shard". Wakes the relay. */
export const committedHintSubject = (log: EventLog, shard: number): string => `${log.name}.committed.${shard}`;
/** Plain NATS, may be lost; the payload is a number as text: "the projection of this shard has reached it". */
export const projectedHintSubject = (shard: number): string => `projection.reached.${shard}`;

/** A chunk stays below this; a single event larger than it travels alone (100 postings make up to 140 KB). */
export const MAX_CHUNK_BYTES = 512 * 1024;
export const MAX_CHUNK_EVENTS = 500;

export interface StoredEvent {
  /** 1, 2, 3 … within the shard, in commit order, without a gap. */
  readonly number: bigint;
  readonly bucket: number;
  /** The id of what changed, such as `xfer_…`. */
  readonly aggregateId: string;
  readonly aggregateVersion: bigint;
  /** Such as `transfer_posted`; the message of events.proto by that name. */
  readonly type: string;
  readonly schemaVersion: number;
  /** The message in Protobuf's JSON form. */
  readonly payload: string;
  /** RFC 3339, UTC, milliseconds. Never falls from one number to the next. */
  readonly occurredAt: string;
}

/** One read stops at so much payload, after at least one event. */
const MAX_READ_BYTES = 8 * 1024 * 1024;

/**
 * Events of a log after number `after`, in order: up to `limit`, fewer when they are large; none only when there is none.
 */
export async function readEvents(
  db: ClientBase | Pool,
  after: bigint,
  limit: number,
  log: EventLog = LEDGER_LOG,
): Promise<StoredEvent[]> {
  const { rows } = await db.query<[string, number, string, string, string, number, string, string]>({
    name: `read-${log.name}-events`,
    text: `select number, bucket, aggregate_id, aggregate_version, type, schema_version, payload,
                  to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
             from (select *, sum(octet_length(payload)) over (order by number rows unbounded preceding)
                               - octet_length(payload) as bytes_before
                     from (select * from ${log.name}.events where number > $1 order by number limit $2) e) e
            where bytes_before < $3 order by number`,
    values: [after.toString(), limit, MAX_READ_BYTES],
    rowMode: "array",
  });
  return rows.map(([number, bucket, aggregateId, aggregateVersion, type, schemaVersion, payload, occurredAt]) => ({
    number: BigInt(number),
    bucket,
    aggregateId,
    aggregateVersion: BigInt(aggregateVersion),
    type,
    schemaVersion,
    payload,
    occurredAt,
  }));
}

/** Splits events (in order) into chunks of at most MAX_CHUNK_EVENTS and, where one event fits, MAX_CHUNK_BYTES. */
export function encodeChunks(log: EventLog, shard: number, events: readonly StoredEvent[]): Chunk[] {
  const chunks: Chunk[] = [];
  let open: { first: bigint; last: bigint; count: number; bytes: number; parts: string[] } | undefined;
  const close = () => {
    if (open === undefined) return;
    chunks.push({ first: open.first, last: open.last, count: open.count, body: `[${open.parts.join(",")}]` });
    open = undefined;
  };
  for (const event of events) {
    const text = encodeCloudEvent(log, shard, event);
    const bytes = Buffer.byteLength(text) + 1;
    if (open !== undefined && (open.count === MAX_CHUNK_EVENTS || open.bytes + bytes > MAX_CHUNK_BYTES)) close();
    open ??= { first: event.number, last: event.number, count: 0, bytes: 2, parts: [] };
    open.parts.push(text);
    open.last = event.number;
    open.count += 1;
    open.bytes += bytes;
  }
  close();
  return chunks;
}

export interface Chunk {
  readonly first: bigint;
  readonly last: bigint;
  readonly count: number;
  /** The JetStream message: a JSON array of CloudEvents. */
  readonly body: string;
}

/** The payload is JSON already, so it is spliced in; every other part needs no escaping (ids, numbers, [a-z_]). */
function encodeCloudEvent({ name }: EventLog, shard: number, event: StoredEvent): string {
  return (
    `{"specversion":"1.0","id":"${shard}/${event.number}","source":"/${name}/shards/${shard}",` +
    `"type":"ledgermesh.${name}.${event.type}.v${event.schemaVersion}","subject":"${event.aggregateId}",` +
    `"time":"${event.occurredAt}","datacontenttype":"application/json","shard":${shard},"number":"${event.number}",` +
    `"bucket":${event.bucket},"aggregateversion":"${event.aggregateVersion}","data":${event.payload}}`
  );
}

export interface ReceivedEvent {
  readonly number: bigint;
  /** Such as `transfer_posted`. */
  readonly type: string;
  readonly schemaVersion: number;
  readonly aggregateId: string;
  readonly aggregateVersion: bigint;
  /** The parsed payload: Protobuf JSON, snake_case names, int64 as strings. */
  readonly data: unknown;
}

/** The events of a chunk, in order. Throws when it is not one that `encodeChunks` made. */
export function decodeChunk(body: string): ReceivedEvent[] {
  const parsed = JSON.parse(body) as {
    type: string;
    subject: string;
    number: string;
    aggregateversion: string;
    data: unknown;
  }[];
  return parsed.map(({ type, subject, number, aggregateversion, data }) => {
    const match = /^ledgermesh\.[a-z]+\.([a-z_]+)\.v([0-9]+)$/.exec(type);
    if (match === null) throw new Error(`event ${number} has the unknown type ${type}`);
    return {
      number: BigInt(number),
      type: match[1] as string,
      schemaVersion: Number(match[2]),
      aggregateId: subject,
      aggregateVersion: BigInt(aggregateversion),
      data,
    };
  });
}

/** A stored event as a consumer sees it, for one that fetches a gap from the shard. */
export function toReceivedEvent(event: StoredEvent): ReceivedEvent {
  return {
    number: event.number,
    type: event.type,
    schemaVersion: event.schemaVersion,
    aggregateId: event.aggregateId,
    aggregateVersion: event.aggregateVersion,
    data: JSON.parse(event.payload),
  };
}
