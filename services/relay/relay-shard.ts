import type { Client } from "pg";
import { BackOff, pause, unlessAborted, Wake } from "#lib/back-off.ts";
import {
  type Chunk,
  committedHintSubject,
  type EventLog,
  encodeChunks,
  eventSubject,
  MAX_CHUNK_EVENTS,
  readEvents,
  type StoredEvent,
} from "#lib/events.ts";
import type { Ownership } from "#lib/shard-owner.ts";
import type { Context } from "#services/relay/context.ts";
import { ensureStream } from "#services/relay/ensure-stream.ts";
import { lagEvents, publishedChunks, publishedEvents, unsealedEvents } from "#services/relay/metrics.ts";
import { openSealer, type Sealer, sealWhatIsLeft } from "#services/relay/seal-events.ts";

/**
 * Brings one log of one shard to JetStream, in rounds: read what comes after the cursor, publish it as chunks (all of
 * a round in flight at once), and when all are acknowledged move the cursor. So the cursor never passes an event that
 * JetStream does not have. A round that breaks off is repeated with the same chunks, which JetStream recognises by their
 * message ids; after a restart the chunks may be cut otherwise, and then consumers skip by number what they know.
 *
 * The same events are sealed (seal-events.ts) while they are being published, before the cursor moves: it never passes an
 * event that is not sealed, but while seals are made for what was published before there were any.
 */

/** Of one round: two full chunks, at most 60 MB when every transfer has 100 postings. */
const ROUND_EVENTS = 2 * MAX_CHUNK_EVENTS;
/** From one round to the next when there is little to do: events that come in between share a chunk, and a round's cost. */
const ROUND_INTERVAL_MS = 50;
/** Hints may get lost: this is how long an event then waits. */
const POLL_MS = 1_000;
const ACKNOWLEDGE_TIMEOUT_MS = 5_000;
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;
const CONNECTION_POLL_MS = 100;
const LAG_INTERVAL_MS = 2_000;

export async function relayShard(
  ctx: Context,
  eventLog: EventLog,
  shard: number,
  { db, signal }: Ownership,
): Promise<void> {
  // The cursor may lag after a crash of Postgres, it may not lead: it moves after JetStream has the events, and a lost
  // move only means that they are published again. A crash takes the newest commits of the log alone, so that with a lost
  // seal also the cursor's move is lost. So these commits need not wait for the disk.
  await db.query("set synchronous_commit = off");
  const sealer = await openSealer(db, shard, ctx.log, eventLog);
  await together(signal, [
    (either) => publishRounds(ctx, eventLog, shard, db, sealer, either),
    (either) => sealWhatIsLeft(sealer, shard, ctx.log, either, eventLog),
  ]);
}

/** Runs works side by side until the signal aborts; when one of them ends or throws, the others are aborted too. */
async function together(
  signal: AbortSignal,
  works: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  await Promise.all(works.map((work) => work(either).finally(() => ended.abort())));
}

async function publishRounds(
  ctx: Context,
  eventLog: EventLog,
  shard: number,
  db: Client,
  sealer: Sealer,
  signal: AbortSignal,
): Promise<void> {
  const labels = { log: eventLog.name, shard };
  let cursor = await readCursor(db, eventLog, shard);
  await whenStreamIsThere(ctx, eventLog, signal);
  if (signal.aborted) return;
  const wake = new Wake();
  const hints = await subscribeToHints(ctx, eventLog, shard, wake);
  let lagReadAtMs = 0;
  try {
    while (!signal.aborted) {
      const startedAtMs = Date.now();
      const events = await readEvents(db, cursor, ROUND_EVENTS, eventLog);
      const last = events.at(-1);
      if (last !== undefined) {
        checkContiguous(cursor, events);
        if (!ctx.nats.connected()) await whenStreamIsThere(ctx, eventLog, signal);
        const chunks = encodeChunks(eventLog, shard, events);
        await Promise.all([publishAll(ctx, eventLog, shard, chunks, signal), sealer.seal(events)]);
        if (signal.aborted) return;
        await moveCursor(db, eventLog, shard, cursor, last.number, sealer.sealedTo());
        cursor = last.number;
        publishedEvents.inc(labels, events.length);
      }
      if (startedAtMs - lagReadAtMs >= LAG_INTERVAL_MS) {
        lagReadAtMs = startedAtMs;
        const head = await readHead(db, eventLog);
        lagEvents.set(labels, Number(head - cursor));
        unsealedEvents.set(labels, Number(head - sealer.sealedTo()));
      }
      if (events.length === ROUND_EVENTS) continue;
      if (events.length === 0) await wake.wait(POLL_MS, signal);
      await pause(startedAtMs + ROUND_INTERVAL_MS - Date.now(), signal);
    }
  } finally {
    hints.unsubscribe();
    lagEvents.remove(labels);
    unsealedEvents.remove(labels);
  }
}

async function readCursor(db: Client, { cursorTable }: EventLog, shard: number): Promise<bigint> {
  const { rows } = await db.query<{ number: string }>(`select number from ${cursorTable} where shard = $1`, [shard]);
  const [row] = rows;
  if (row === undefined)
    throw new Error(`the database has no cursor for shard ${shard}: is it the right one, migrated?`);
  return BigInt(row.number);
}

/**
 * Throws when the cursor is not where we left it: then another relay is at work, and this one must stop.
 * Where the seals are still behind, the move says so, lest an audit take them for removed.
 */
async function moveCursor(
  db: Client,
  { cursorTable }: EventLog,
  shard: number,
  from: bigint,
  to: bigint,
  sealedTo: bigint,
): Promise<void> {
  const { rowCount } = await db.query({
    name: "move-cursor",
    text: `update ${cursorTable}
              set number = $3,
                  number_before_seals = case when $4::bigint < $3 then $3 else number_before_seals end
            where shard = $1 and number = $2`,
    values: [shard, from.toString(), to.toString(), sealedTo.toString()],
  });
  if (rowCount !== 1) throw new Error(`the cursor is not at ${from} any more: another relay moved it`);
}

async function readHead(db: Client, { name }: EventLog): Promise<bigint> {
  const { rows } = await db.query<{ sequence: string }>(`select sequence from ${name}.shard_head`);
  return BigInt(rows[0]?.sequence ?? 0);
}

/** A hole in the numbers would be a broken ledger: nothing after it may be published as if it were whole. */
export function checkContiguous(cursor: bigint, events: readonly StoredEvent[]): void {
  let expected = cursor + 1n;
  for (const { number } of events) {
    if (number !== expected) throw new Error(`event ${expected} is missing: the log goes on with ${number}`);
    expected += 1n;
  }
}

async function subscribeToHints(
  ctx: Context,
  eventLog: EventLog,
  shard: number,
  wake: Wake,
): Promise<{ unsubscribe(): void }> {
  const connection = await ctx.nats.opened;
  return connection.subscribe(committedHintSubject(eventLog, shard), { callback: () => wake.notify() });
}

/** Publishes chunks until JetStream has acknowledged every one of them, or the signal aborts. */
async function publishAll(
  ctx: Context,
  eventLog: EventLog,
  shard: number,
  chunks: readonly Chunk[],
  signal: AbortSignal,
): Promise<void> {
  const jetStream = await ctx.jetStream;
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  let waiting = chunks;
  while (!signal.aborted) {
    const results = await Promise.allSettled(
      waiting.map(async ({ first, last, body }) => {
        const msgID = `${shard}-${first}-${last}`;
        const options = { msgID, timeout: ACKNOWLEDGE_TIMEOUT_MS };
        const { stream } = await jetStream.publish(eventSubject(eventLog, shard), body, options);
        if (stream !== eventLog.stream) throw new Error(`the stream ${stream} took the chunk ${msgID}`);
      }),
    );
    const failed = results.findIndex(({ status }) => status === "rejected");
    publishedChunks.inc({ log: eventLog.name, shard }, failed < 0 ? waiting.length : failed);
    if (failed < 0) return;
    // From the first that failed on, to keep their order; those behind it that did arrive are recognised.
    waiting = waiting.slice(failed);
    const [result] = results.slice(failed);
    const error = result?.status === "rejected" ? String(result.reason) : "";
    ctx.log.warn({ log: eventLog.name, shard, error }, "JetStream did not take a chunk; trying again");
    await backOff.wait(signal);
    await whenStreamIsThere(ctx, eventLog, signal);
  }
}

/** Waits for JetStream, and makes sure of the stream; somebody may have deleted it. */
async function whenStreamIsThere(ctx: Context, eventLog: EventLog, signal: AbortSignal): Promise<void> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  while (!signal.aborted) {
    // What is sent without a connection would pile up in memory until there is one.
    if (!ctx.nats.connected()) {
      await pause(CONNECTION_POLL_MS, signal);
      continue;
    }
    try {
      const jetStream = await ctx.jetStream;
      const manager = await jetStream.jetstreamManager(false);
      await unlessAborted(ensureStream(manager, eventLog, ctx.streamReplicas), signal);
      return;
    } catch (error) {
      if (signal.aborted) return;
      ctx.log.warn({ error: String(error) }, "JetStream does not answer; trying again");
      await backOff.wait(signal);
    }
  }
}
