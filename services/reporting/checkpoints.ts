import { type Elasticsearch, errorTypeOf, isUnavailable } from "#lib/elasticsearch.ts";
import type { Position } from "#lib/position.ts";
import { ALIASES, listCheckpointIds, readCheckpoints } from "#lib/projection.ts";
import { refusals } from "#services/reporting/refusals.ts";

/** How far the projection of each shard is, and waiting for it. */

/** A reader waits at most so long (api.md). */
export const READ_AFTER_TIMEOUT_MS = 2_000;
/** Hints may get lost: a checkpoint is then noticed after this. */
const POLL_MS = 200;
/** Shards are added rarely. */
const LIST_INTERVAL_MS = 10_000;
const MAX_WAITING_READERS = 1_000;

export class Checkpoints {
  readonly #elasticsearch: Elasticsearch;
  readonly #waiting = new Set<() => void>();
  #ids: readonly string[] = [];
  #listedAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<Map<number, bigint>> | undefined;
  #next: Promise<Map<number, bigint>> | undefined;

  constructor(elasticsearch: Elasticsearch) {
    this.#elasticsearch = elasticsearch;
  }

  /** Some checkpoint has moved: who waits looks again. */
  notify(): void {
    for (const resume of this.#waiting) resume();
  }

  /**
   * Shard to event number, each at least as high as wanted. Throws a Refusal: `PROJECTION_BEHIND` when that did not come
   * within 2 s, `HISTORY_UNAVAILABLE` when Elasticsearch does not answer.
   */
  async reached(wanted: readonly Position[]): Promise<ReadonlyMap<number, bigint>> {
    const deadline = performance.now() + READ_AFTER_TIMEOUT_MS;
    for (;;) {
      // Listens before it reads, so that no hint is missed in between.
      const next = this.#nextHint(deadline);
      try {
        const numbers = await this.#read();
        const behind = wanted.find(({ shard, number }) => (numbers.get(shard) ?? 0n) < number);
        if (behind === undefined) return numbers;
        if (performance.now() >= deadline || this.#waiting.size > MAX_WAITING_READERS) {
          throw refusals.projectionBehind(behind.shard, behind.number, numbers.get(behind.shard) ?? 0n);
        }
        await next.came;
      } finally {
        next.cancel();
      }
    }
  }

  /** A read that begins after the call, so that it sees what the caller was told of; those who come meanwhile share the next. */
  #read(): Promise<Map<number, bigint>> {
    if (this.#reading === undefined) return this.#beginRead();
    this.#next ??= this.#reading.catch(() => {}).then(() => this.#beginRead());
    return this.#next;
  }

  #beginRead(): Promise<Map<number, bigint>> {
    this.#next = undefined;
    const reading = this.#readNow().finally(() => {
      if (this.#reading === reading) this.#reading = undefined;
    });
    this.#reading = reading;
    return reading;
  }

  async #readNow(): Promise<Map<number, bigint>> {
    try {
      const now = performance.now();
      if (this.#ids.length === 0 || now - this.#listedAtMs >= LIST_INTERVAL_MS) {
        this.#ids = await listCheckpointIds(this.#elasticsearch);
        this.#listedAtMs = now;
      }
      return await readCheckpoints(this.#elasticsearch, ALIASES.checkpoints, this.#ids);
    } catch (error) {
      // Not there before the first projector has started.
      if (isUnavailable(error) || errorTypeOf(error) === "index_not_found_exception")
        throw refusals.historyUnavailable();
      throw error;
    }
  }

  #nextHint(deadline: number): { readonly came: Promise<void>; readonly cancel: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, Math.min(POLL_MS, deadline - performance.now())));
    this.#waiting.add(resolve);
    return {
      came: promise,
      cancel: () => {
        clearTimeout(timer);
        this.#waiting.delete(resolve);
      },
    };
  }
}
