import type { JsMsg } from "@nats-io/jetstream";
import type { Client } from "pg";
import { BackOff, unlessAborted } from "#lib/back-off.ts";
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
 *   taken (in a chunk, or fetched from the shard) -> written (Elasticsearch accepted the documents)
 *     -> visible (refreshed, and the checkpoint says so) -> acknowledged to JetStream
 *
 * Events are taken strictly in the order of their numbers: known ones are skipped, missing ones are fetched from the
 * shard's Postgres, which is the log; JetStream only makes it quick. After any failure the work begins again at the
 * checkpoint, and documents that are written again are recognised by their versions.
 */

/** So many documents are written at once: what is in memory is bounded by documents, since events differ much in size. */
const MAX_DOCUMENTS_PER_WRITE = 10_000;
/** Taken from the chunks in hand before the next look at what is due: the more is waiting, the bigger the bulks. */
const MAX_EVENTS_PER_ROUND = 5_000n;
/** Chunks are kept until they are acknowledged; while the making visible is slow, nothing further is taken. */
const MAX_UNACKNOWLEDGED_BYTES = 32 * 1024 * 1024;
/** Events are 60 KB at most. */
const MAX_EVENTS_PER_FETCH = 1_000;
/** So long without a chunk, the shard is asked whether one was lost. */
const IDLE_CHECK_MS = 1_000;
/** Further behind than this at the start, the events are fetched from the shard rather than awaited from JetStream. */
const CATCH_UP_EVENTS = 1_000n;
const LAG_INTERVAL_MS = 2_000;
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;

/** Runs until the ownership ends, or something is wrong that a new beginning may mend: then it throws. */
export async function projectShard(ctx: Context, shard: number, ownership: Ownership): Promise<void> {
  const { signal } = ownership;
  try {
    const from = await beginAtCheckpoint(ctx, shard, ownership);
    const stopReading = new AbortController();
    const reader = new ChunkReader(ctx, shard, AbortSignal.any([signal, stopReading.signal]));
    try {
      await new ShardProjection(ctx, shard, ownership, reader, from).run();
    } finally {
      stopReading.abort();
      await reader.ended();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    ctx.waitingFor.delete(shard);
    positionNumber.remove({ shard });
    lagEvents.remove({ shard });
  }
}

/** Sets up what is missing in Elasticsearch and reads where to begin; waits while it is away. Throws when aborted. */
async function beginAtCheckpoint(ctx: Context, shard: number, { db, signal }: Ownership): Promise<bigint> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  const id = checkpointId(ctx.generation, shard);
  for (;;) {
    try {
      await unlessAborted(setUpIndices(ctx, shard), signal);
      const checkpoints = readCheckpoints(ctx.elasticsearch, indexName("checkpoints", ctx.generation), [id]);
      const number = (await unlessAborted(checkpoints, signal)).get(shard);
      if (number === undefined) throw new Error(`the checkpoint ${id} is not there`);
      // One of the two is not the other's, and going on would hide the events up to there.
      const head = await readHead(db);
      if (head < number) throw new Error(`the checkpoint is at ${number}, and the shard's last event is ${head}`);
      ctx.waitingFor.delete(shard);
      ctx.log.info({ shard, number: number.toString() }, "projecting from the checkpoint on");
      return number;
    } catch (error) {
      signal.throwIfAborted();
      ctx.waitingFor.set(shard, `shard ${shard} cannot be projected: ${String(error)}`);
      ctx.log.warn({ shard, error: String(error) }, "the projection cannot begin; trying again");
      await backOff.wait(signal);
    }
  }
}

/** Number of the shard's last event. */
async function readHead(db: Client): Promise<bigint> {
  const { rows } = await db.query<{ sequence: string }>("select sequence from ledger.shard_head");
  return BigInt(rows[0]?.sequence ?? 0);
}

class ShardProjection {
  readonly #ctx: Context;
  readonly #shard: number;
  readonly #db: Client;
  readonly #signal: AbortSignal;
  readonly #reader: ChunkReader;
  readonly #writer: DocumentWriter;
  /** Number of the last event whose documents are written or in `#documents`. */
  #taken: bigint;
  /** Number of the last event whose documents Elasticsearch has. */
  #written: bigint;
  /** Number of the last event that the checkpoint says is visible. */
  #visible: bigint;
  #documents: ProjectedDocument[] = [];
  /** Chunks whose events are taken; acknowledged when they are visible. */
  #unacknowledged: JsMsg[] = [];
  /** Of those that are being made visible, too. */
  #unacknowledgedBytes = 0;
  /** When each transfer that is taken and not visible yet was posted, in ms. */
  #postTimesMs: number[] = [];
  /** Goes on beside the taking and writing of what comes next. */
  #makingVisible: Promise<void> | undefined;
  #failure: unknown;
  #lagReadAtMs = 0;

  constructor(ctx: Context, shard: number, { db, signal }: Ownership, reader: ChunkReader, from: bigint) {
    this.#ctx = ctx;
    this.#shard = shard;
    this.#db = db;
    this.#signal = signal;
    this.#reader = reader;
    this.#writer = new DocumentWriter(ctx, shard, signal);
    this.#taken = from;
    this.#written = from;
    this.#visible = from;
    positionNumber.set({ shard }, Number(from));
  }

  async run(): Promise<void> {
    const published = await this.#publishedNumber();
    if (published - this.#taken > CATCH_UP_EVENTS) await this.#fetchUpTo(published);
    while (!this.#signal.aborted) {
      if (this.#unacknowledgedBytes > MAX_UNACKNOWLEDGED_BYTES) await this.#makingVisible;
      const took = await this.#takeChunks();
      const dueInMs = this.#dueInMs();
      if (dueInMs === 0) {
        await this.#ctx.refresher.gather(this.#write());
        this.#makeVisible();
      }
      await this.#noteLag();
      if (took || dueInMs === 0) continue;
      const woken = await this.#reader.arrived.wait(Math.min(dueInMs ?? IDLE_CHECK_MS, IDLE_CHECK_MS), this.#signal);
      if (!woken && dueInMs === undefined) await this.#fetchUpTo(await this.#publishedNumber());
    }
  }

  /**
   * When to write what is taken: just before a refresh may begin, since it is of no use earlier, and one bulk costs less
   * than several. Undefined when there is nothing to write or to make visible; infinite while that is under way, since its
   * end wakes the loop. Throws when it failed.
   */
  #dueInMs(): number | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#unacknowledged.length === 0 && this.#taken === this.#visible) return undefined;
    return this.#makingVisible === undefined ? this.#ctx.refresher.dueInMs() : Number.POSITIVE_INFINITY;
  }

  /** Takes the events of the chunks in hand. Answers whether there were any. */
  async #takeChunks(): Promise<boolean> {
    const before = this.#taken;
    let chunk = this.#reader.take();
    const took = chunk !== undefined;
    for (; chunk !== undefined; chunk = this.#reader.take()) {
      for (const event of this.#decode(chunk)) {
        if (event.number > this.#taken + 1n) await this.#fetchUpTo(event.number - 1n);
        if (event.number === this.#taken + 1n) await this.#take(event);
      }
      this.#unacknowledged.push(chunk);
      this.#unacknowledgedBytes += chunk.data.length;
      if (this.#taken - before >= MAX_EVENTS_PER_ROUND) break;
    }
    return took;
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

  /** Fetches from the shard, takes and writes what comes after the last event taken. */
  async #fetchUpTo(last: bigint): Promise<void> {
    while (this.#taken < last) {
      this.#signal.throwIfAborted();
      const missing = last - this.#taken;
      const limit = missing < MAX_EVENTS_PER_FETCH ? Number(missing) : MAX_EVENTS_PER_FETCH;
      const events = await readEvents(this.#db, this.#taken, limit);
      for (const event of events) {
        if (event.number !== this.#taken + 1n) break;
        await this.#take(toReceivedEvent(event));
      }
      if (events.length < limit || events.at(-1)?.number !== this.#taken) {
        throw new Error(`shard ${this.#shard} has no event ${this.#taken + 1n}`);
      }
      fetchedEvents.inc({ shard: this.#shard }, events.length);
      await this.#write();
      this.#makeVisible();
      await this.#noteLag();
    }
  }

  async #take(event: ReceivedEvent): Promise<void> {
    try {
      this.#documents.push(...project(this.#shard, event));
    } catch (error) {
      await this.#writer.recordHole(event.number, String(error));
    }
    const postTime = (event.data as { post_time?: unknown } | null)?.post_time;
    if (typeof postTime === "string") this.#postTimesMs.push(Date.parse(postTime));
    this.#taken = event.number;
    if (this.#documents.length >= MAX_DOCUMENTS_PER_WRITE) await this.#write();
  }

  async #write(): Promise<void> {
    await this.#writer.write(this.#documents);
    this.#documents = [];
    this.#written = this.#taken;
  }

  /**
   * Begins to make visible what is written, which is all that is taken; unless that is under way: then it follows later.
   * Throws when it failed.
   */
  #makeVisible(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#makingVisible !== undefined) return;
    this.#makingVisible = this.#refreshAndAcknowledge()
      .catch((error) => {
        this.#failure = error;
      })
      .finally(() => {
        this.#makingVisible = undefined;
        this.#reader.arrived.notify();
      });
  }

  /** Refreshes, moves the checkpoint, and only then acknowledges and tells who waits. */
  async #refreshAndAcknowledge(): Promise<void> {
    const number = this.#written;
    const [chunks, postTimesMs] = [this.#unacknowledged, this.#postTimesMs];
    this.#unacknowledged = [];
    this.#postTimesMs = [];
    if (number > this.#visible) {
      await this.#writer.refresh();
      await this.#moveCheckpoint(number);
      this.#visible = number;
      positionNumber.set({ shard: this.#shard }, Number(number));
      const now = Date.now();
      for (const postTimeMs of postTimesMs) {
        visibleAfterSeconds.observe({ shard: this.#shard }, (now - postTimeMs) / 1_000);
      }
      if (this.#ctx.nats.connected()) {
        (await this.#ctx.nats.opened).publish(projectedHintSubject(this.#shard), number.toString());
      }
    }
    // And those before it.
    chunks.at(-1)?.ack();
    for (const { data } of chunks) this.#unacknowledgedBytes -= data.length;
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
          // The client takes no text here. A shard reaches 2^53 events after 28,000 years of 10,000 a second.
          version: Number(number),
          version_type: "external",
        }),
      );
    } catch (error) {
      if (!isVersionConflict(error)) throw error;
      throw new Error(`the checkpoint is at ${number} or beyond: another projector moved it`);
    }
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
    lagEvents.set({ shard: this.#shard }, Number((await readHead(this.#db)) - this.#visible));
  }
}
