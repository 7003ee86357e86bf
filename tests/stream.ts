import assert from "node:assert/strict";
import { AckPolicy, DeliverPolicy, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { type EventLog, eventSubject, LEDGER_LOG } from "#lib/events.ts";
import { cursorOf, headOf } from "#tests/projection.ts";
import { eventually, postgres, stack } from "#tests/stack.ts";

/** Reading the stream of events as a consumer would. */

const FETCH_EXPIRES_MS = 1_000;
/** A server that was killed comes back within it. */
const REQUEST_TIMEOUT_MS = 30_000;

let connection: NatsConnection | undefined;

/** A connection, a new one when the server was killed since: one that reconnects loses what is sent meanwhile. */
export async function nats(): Promise<NatsConnection> {
  if (connection === undefined || connection.isClosed()) {
    const { host, username, password } = new URL(stack.nats);
    connection = await connect({ servers: host, user: username, pass: password, reconnect: false });
  }
  return connection;
}

/** An open connection keeps the test's process alive. */
export async function closeNats(): Promise<void> {
  await connection?.close();
}

export async function streams(): Promise<JetStreamManager> {
  return jetstreamManager(await nats(), { timeout: REQUEST_TIMEOUT_MS, checkAPI: false });
}

/** The stream's last sequence: what is published later is after it. */
export async function lastSequence({ stream }: EventLog = LEDGER_LOG): Promise<number> {
  return (await (await streams()).streams.info(stream)).state.last_seq;
}

/** One event as it was published. */
export interface PublishedEvent {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject: string;
  readonly time: string;
  readonly number: string;
  readonly data: unknown;
}

/** The events of a shard that were published after a sequence of the stream, in their order, up to a number. */
export async function publishedEvents(
  shard: number,
  afterSequence: number,
  lastNumber: bigint,
  log: EventLog = LEDGER_LOG,
): Promise<PublishedEvent[]> {
  const manager = await streams();
  const { name } = await manager.consumers.add(log.stream, {
    filter_subject: eventSubject(log, shard),
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: afterSequence + 1,
    inactive_threshold: 60 * 1_000_000_000,
    mem_storage: true,
  });
  const consumer = await jetstream(await nats()).consumers.get(log.stream, name);
  const events: PublishedEvent[] = [];
  await eventually(async () => {
    for await (const message of await consumer.fetch({ max_messages: 100, expires: FETCH_EXPIRES_MS })) {
      events.push(...(message.json() as PublishedEvent[]));
    }
    return BigInt(events.at(-1)?.number ?? 0) >= lastNumber;
  }, `event ${lastNumber} of shard ${shard} is in the stream`);
  await manager.consumers.delete(log.stream, name);
  return events;
}

/** The same events as the shard's log has them. */
export async function loggedEvents(
  shard: number,
  after: bigint,
  last: bigint,
  { name }: EventLog = LEDGER_LOG,
): Promise<PublishedEvent[]> {
  const { rows } = await postgres(shard).query(
    `select e.number::text, e.aggregate_id, type, schema_version, payload,
            to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time
       from ${name}.events e where e.number > $1 and e.number <= $2 order by e.number`,
    [after.toString(), last.toString()],
  );
  return rows.map(({ number, aggregate_id, type, schema_version, payload, time }) => ({
    id: `${shard}/${number}`,
    source: `/${name}/shards/${shard}`,
    type: `ledgermesh.${name}.${type}.v${schema_version}`,
    subject: aggregate_id,
    time,
    number,
    data: JSON.parse(payload),
  }));
}

/** Asserts that every event of a shard after number `from` is in the stream after a sequence, when first seen in order. */
export async function assertPublished(shard: number, afterSequence: number, from: bigint): Promise<void> {
  const last = await headOf(shard);
  await eventually(
    async () => (await cursorOf(shard)) >= last,
    `the relay has reached ${last} on shard ${shard}`,
    60_000,
  );
  let expected = from + 1n;
  for (const { number } of await publishedEvents(shard, afterSequence, last)) {
    const found = BigInt(number);
    assert.ok(found <= expected, `event ${expected} was skipped: ${found} came`);
    if (found === expected) expected += 1n;
  }
  assert.ok(expected > last, `event ${expected} is missing`);
}
