import type { JsMsg } from "@nats-io/jetstream";
import type { Client } from "pg";
import { BackOff } from "#lib/back-off.ts";
import { decodeChunk, projectedHintSubject, type ReceivedEvent, readEvents, toReceivedEvent } from "#lib/events.ts";
import { checkpointId, indexName, readCheckpoints } from "#lib/projection.ts";
import type { Ownership } from "#lib/shard-owner.ts";
import { ChunkReader } from "#services/projector/chunk-reader.ts";
import type { Context } from "#services/projector/context.ts";
import { fetchedEvents, lagEvents, positionNumber, visibleAfterSeconds } from "#services/projector/metrics.ts";
import { type ProjectedDocument, project } from "#services/projector/project.ts";
import { setUpIndices } from "#services/projector/set-up-indices.ts";
import { DocumentWriter, isVersionConflict } from "#services/projector/write-documents.ts";

/**
 * The projection of one shard. Its numbers only rise:
 *
 *   received (a chunk, or fetched from the shard) -> written (Elasticsearch accepted the documents)
 *     -> visible (refreshed, and the checkpoint says so) -> acknowledged to JetStream
 *
 * Events are taken strictly in the order of their numbers: known ones are skipped, missing ones are fetched from the
 * shard's Postgres, which is the log; JetStream only makes it quick. After any failure the work begins again at the
 * checkpoint, and documents that are written again are recognised by their versions.
 */

/** Events of one write: enough for a few bulks. */
const MAX_EVENTS_PER_WRITE = 2_000;
const MAX_CHUNKS_PER_WRITE = 32;
/** A refresh costs about as much as writing hundreds of documents. */
const REFRESH_INTERVAL_MS = 200;
/** So long without a chunk, the shard is asked whether one was lost. */
const IDLE_CHECK_MS = 1_000;
/** Further behind than this at the start, the events are fetched from the shard rather than awaited from JetStream. */
const CATCH_UP_EVENTS = 1_000n;
const LAG_INTERVAL_MS = 2_000;
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;

export async function projectShard(ctx: Context, shard: number, ownership: Ownership): Promise<void> {
  const { signal } = ownership;
  const from = await beginAtCheckpoint(ctx, shard, signal);
  if (from === undefined) return;
  const stopReading = new AbortController();
  const reader = new ChunkReader(ctx, shard, AbortSignal.any([signal, stopReading.signal]));
  try {
    await new ShardProjection(ctx, shard, ownership, reader, from).run();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stopReading.abort();
    await reader.ended();
    ctx.waitingFor.delete(shard);
    positionNumber.remove({ shard });
    lagEvents.remove({ shard });
  }
}

/** Sets up what is missing in Elasticsearch and reads where to begin; waits while it is away. Undefined when aborted. */
async function beginAtCheckpoint(ctx: Context, shard: number, signal: AbortSignal): Promise<bigint | undefined> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  const id = checkpointId(ctx.generation, shard);
  while (!signal.aborted) {
    try {
      await setUpIndices(ctx, shard);
      const number = (await readCheckpoints(ctx.elasticsearch, [id])).get(shard);
      if (number === undefined) throw new Error(`the checkpoint ${id} is not there`);
      ctx.waitingFor.delete(shard);
      ctx.log.info({ shard, number: number.toString() }, "projecting from the checkpoint on");
      return number;
    } catch (error) {
      ctx.waitingFor.set(shard, "Elasticsearch does not answer");
      ctx.log.warn({ shard, error: String(error) }, "Elasticsearch is not ready; trying again");
      await backOff.wait(signal);
    }
  }
  return undefined;
}

class ShardProjection {
  readonly #ctx: Context;
  readonly #shard: number;
  readonly #db: Client;
  readonly #signal: AbortSignal;
  readonly #reader: ChunkReader;
  readonly #writer: DocumentWriter;
  /** Number of the last event whose documents Elasticsearch has. */
  #written: bigint;
  /** Number of the last event that the checkpoint says is visible. */
  #visible: bigint;
  #refreshedAtMs = 0;
  #lagReadAtMs = 0;
  /** Chunks whose events are written; acknowledged when they are visible. */
  #unacknowledged: JsMsg[] = [];
  /** When each transfer that is written and not visible yet was posted, in ms. */
  #postTimesMs: number[] = [];

  constructor(ctx: Context, shard: number, { db, signal }: Ownership, reader: ChunkReader, from: bigint) {
    this.#ctx = ctx;
    this.#shard = shard;
    this.#db = db;
    this.#signal = signal;
    this.#reader = reader;
    this.#writer = new DocumentWriter(ctx, shard, signal);
    this.#written = from;
    this.#visible = from;
    positionNumber.set({ shard }, Number(from));
  }

  async run(): Promise<void> {
    const published = await this.#publishedNumber();
    if (published - this.#written > CATCH_UP_EVENTS) await this.#fetchUpTo(published);
    while (!this.#signal.aborted) {
      const took = await this.#takeChunks();
      const refreshInMs = this.#refreshedAtMs + REFRESH_INTERVAL_MS - Date.now();
      if (this.#unacknowledged.length > 0 && refreshInMs <= 0) await this.#makeVisible();
      await this.#noteLag();
      if (took) continue;
      const waiting = this.#unacknowledged.length > 0;
      const woken = await this.#reader.arrived.wait(waiting ? Math.max(refreshInMs, 0) : IDLE_CHECK_MS, this.#signal);
      if (!woken && !waiting) await this.#fetchUpTo(await this.#publishedNumber());
    }
  }

  /** Writes the events of the chunks in hand. Answers whether there were any. */
  async #takeChunks(): Promise<boolean> {
    let events: ReceivedEvent[] = [];
    let expected = this.#written + 1n;
    let count = 0;
    for (; count < MAX_CHUNKS_PER_WRITE && events.length < MAX_EVENTS_PER_WRITE; count += 1) {
      const chunk = this.#reader.take();
      if (chunk === undefined) break;
      this.#unacknowledged.push(chunk);
      for (const event of this.#decode(chunk)) {
        if (event.number < expected) continue;
        if (event.number > expected) {
          await this.#write(events);
          events = [];
          await this.#fetchUpTo(event.number - 1n);
        }
        events.push(event);
        expected = event.number + 1n;
      }
    }
    await this.#write(events);
    return count > 0;
  }

  /** The events of a chunk; none of one that is not ours, so that its numbers are fetched as missing. */
  #decode(chunk: JsMsg): ReceivedEvent[] {
    try {
      return decodeChunk(chunk.string());
    } catch (error) {
      this.#ctx.log.error({ shard: this.#shard, sequence: chunk.seq, error: String(error) }, "no chunk of events");
      return [];
    }
  }

  /** Fetches from the shard, and writes, what comes after the last event written. */
  async #fetchUpTo(last: bigint): Promise<void> {
    while (this.#written < last && !this.#signal.aborted) {
      const missing = last - this.#written;
      const limit = missing < MAX_EVENTS_PER_WRITE ? Number(missing) : MAX_EVENTS_PER_WRITE;
      const events = (await readEvents(this.#db, this.#written, limit)).map(toReceivedEvent);
      let expected = this.#written + 1n;
      for (const { number } of events) {
        if (number !== expected) break;
        expected += 1n;
      }
      if (expected <= this.#written + BigInt(limit)) throw new Error(`shard ${this.#shard} has no event ${expected}`);
      await this.#write(events);
      fetchedEvents.inc({ shard: this.#shard }, events.length);
      if (Date.now() - this.#refreshedAtMs >= REFRESH_INTERVAL_MS) await this.#makeVisible();
      await this.#noteLag();
    }
    if (this.#visible < this.#written) await this.#makeVisible();
  }

  async #write(events: readonly ReceivedEvent[]): Promise<void> {
    const last = events.at(-1);
    if (last === undefined) return;
    const documents: ProjectedDocument[] = [];
    for (const event of events) {
      try {
        documents.push(...project(this.#shard, event));
      } catch (error) {
        await this.#writer.recordHole(event.number, String(error));
      }
      const postTime = (event.data as { post_time?: unknown }).post_time;
      if (typeof postTime === "string") this.#postTimesMs.push(Date.parse(postTime));
    }
    await this.#writer.write(documents);
    this.#written = last.number;
  }

  /** Refreshes, moves the checkpoint, and only then acknowledges and tells who waits. */
  async #makeVisible(): Promise<void> {
    const number = this.#written;
    if (number > this.#visible) {
      await this.#writer.refresh();
      this.#refreshedAtMs = Date.now();
      await this.#moveCheckpoint(number);
      this.#visible = number;
      positionNumber.set({ shard: this.#shard }, Number(number));
      this.#observeVisible();
      if (this.#ctx.nats.connected()) {
        (await this.#ctx.nats.opened).publish(projectedHintSubject(this.#shard), number.toString());
      }
    }
    for (const chunk of this.#unacknowledged) chunk.ack();
    this.#unacknowledged = [];
  }

  /** Throws when the checkpoint is there already, or beyond: then another projector is at work, and this one must stop. */
  async #moveCheckpoint(number: bigint): Promise<void> {
    const { generation, elasticsearch } = this.#ctx;
    try {
      await this.#writer.untilAnswered("checkpoint", () =>
        elasticsearch.index({
          index: indexName("checkpoints", generation),
          id: checkpointId(generation, this.#shard),
          document: { generation, shard: this.#shard, number: number.toString() },
          version: number.toString() as unknown as number,
          version_type: "external",
        }),
      );
    } catch (error) {
      if (isVersionConflict(error))
        throw new Error(`the checkpoint is at ${number} or beyond: another projector moved it`);
      throw error;
    }
  }

  #observeVisible(): void {
    const now = Date.now();
    for (const postTimeMs of this.#postTimesMs) {
      visibleAfterSeconds.observe({ shard: this.#shard }, (now - postTimeMs) / 1_000);
    }
    this.#postTimesMs = [];
  }

  /** Number of the last event that the relay has brought to JetStream. */
  async #publishedNumber(): Promise<bigint> {
    const { rows } = await this.#db.query<{ number: string }>({
      name: "published-number",
      text: "select number from relay.cursor where shard = $1",
      values: [this.#shard],
    });
    const [row] = rows;
    if (row === undefined) throw new Error(`the database has no cursor for shard ${this.#shard}`);
    return BigInt(row.number);
  }

  async #noteLag(): Promise<void> {
    const now = Date.now();
    if (now - this.#lagReadAtMs < LAG_INTERVAL_MS) return;
    this.#lagReadAtMs = now;
    const { rows } = await this.#db.query<{ sequence: string }>("select sequence from ledger.shard_head");
    lagEvents.set({ shard: this.#shard }, Number(BigInt(rows[0]?.sequence ?? 0) - this.#visible));
  }
}
