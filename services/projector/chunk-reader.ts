import { AckPolicy, DeliverPolicy, type JsMsg, jetstream } from "@nats-io/jetstream";
import { BackOff, pause, Wake } from "#lib/back-off.ts";
import { eventSubject, LEDGER_LOG, MAX_CHUNK_BYTES } from "#lib/events.ts";
import type { Context } from "#services/projector/context.ts";

/**
 * Reads the chunks of one shard from JetStream ahead of the work on them, as many as fit in hand. It keeps trying while
 * NATS, the stream or the consumer are away. What it misses, or gets twice, is the caller's to notice by the numbers.
 */

const MAX_FETCH_CHUNKS = 64;
/** Per shard. What a fetch may bring at most is reserved: most chunks are far smaller than MAX_CHUNK_BYTES. */
const MAX_BYTES_IN_HAND = 32 * 1024 * 1024;
const FETCH_EXPIRES_MS = 5_000;
/** A fetch that has not ended so long after its time hangs. */
const FETCH_GRACE_MS = 2_000;
const ROOM_POLL_MS = 1_000;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 3_000;
/** An unacknowledged chunk comes again after this; while Elasticsearch is away that happens, and does no harm. */
const ACK_WAIT_NS = 60 * 1_000_000_000;
const MAX_UNACKNOWLEDGED = 1_000;

/** Of the durable consumer: where a shard's projection is in the stream. */
export function consumerName(generation: string, shard: number): string {
  return `projection-${generation}-${shard}`;
}

export class ChunkReader {
  /** Notified when a chunk has come. */
  readonly arrived = new Wake();
  readonly #room = new Wake();
  readonly #chunks: JsMsg[] = [];
  #bytesInHand = 0;
  readonly #ctx: Context;
  readonly #shard: number;
  readonly #signal: AbortSignal;
  readonly #running: Promise<void>;

  /** Reads until the signal aborts. */
  constructor(ctx: Context, shard: number, signal: AbortSignal) {
    this.#ctx = ctx;
    this.#shard = shard;
    this.#signal = signal;
    this.#running = this.#run();
  }

  /** The next chunk in hand, in the order of their coming. */
  take(): JsMsg | undefined {
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) {
      this.#bytesInHand -= chunk.data.length;
      this.#room.notify();
    }
    return chunk;
  }

  /** Ends when nothing is being read any more; the signal must have aborted. */
  async ended(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
    while (!this.#signal.aborted) {
      if (!this.#ctx.nats.connected()) {
        await pause(FIRST_RETRY_MS, this.#signal);
        continue;
      }
      try {
        await this.#readWhileItWorks(backOff);
      } catch (error) {
        if (this.#signal.aborted) return;
        this.#ctx.log.warn({ shard: this.#shard, error: String(error) }, "no chunks can be read; trying again");
        await backOff.wait(this.#signal);
      }
    }
  }

  async #readWhileItWorks(backOff: BackOff): Promise<void> {
    const client = jetstream(await this.#ctx.nats.opened);
    const name = consumerName(this.#ctx.generation, this.#shard);
    await (await client.jetstreamManager(false)).consumers.add(LEDGER_LOG.stream, {
      durable_name: name,
      filter_subject: eventSubject(LEDGER_LOG, this.#shard),
      deliver_policy: DeliverPolicy.All,
      // Acknowledging one acknowledges those before it: they are taken in order.
      ack_policy: AckPolicy.All,
      ack_wait: ACK_WAIT_NS,
      max_ack_pending: MAX_UNACKNOWLEDGED,
      max_deliver: -1,
    });
    const consumer = await client.consumers.get(LEDGER_LOG.stream, name);
    while (!this.#signal.aborted) {
      const room = Math.floor((MAX_BYTES_IN_HAND - this.#bytesInHand) / MAX_CHUNK_BYTES);
      if (room < 1) {
        await this.#room.wait(ROOM_POLL_MS, this.#signal);
        continue;
      }
      const chunks = await consumer.fetch({
        max_messages: Math.min(room, MAX_FETCH_CHUNKS),
        expires: FETCH_EXPIRES_MS,
        bind: true,
      });
      const stop = () => chunks.stop();
      const watchdog = setTimeout(stop, FETCH_EXPIRES_MS + FETCH_GRACE_MS);
      this.#signal.addEventListener("abort", stop, { once: true });
      try {
        for await (const chunk of chunks) {
          this.#chunks.push(chunk);
          this.#bytesInHand += chunk.data.length;
          this.arrived.notify();
          backOff.reset();
        }
      } finally {
        clearTimeout(watchdog);
        this.#signal.removeEventListener("abort", stop);
      }
    }
  }
}
