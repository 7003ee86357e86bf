import { type Elasticsearch, errorTypeOf, isUnavailable } from "#lib/elasticsearch.ts";
import type { Call } from "#lib/grpc-server.ts";
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
/** A position is not signed: one that is made up would wait in vain, and nobody is to take the places of all. */
const MAX_WAITING_READERS_PER_PERSON = 8;

/** Whose query waits. */
export type Reader = Pick<Call, "principal" | "caller">;

export class Checkpoints {
  readonly #elasticsearch: Elasticsearch;
  readonly #waiting = new Set<() => void>();
  /** By caller, of users and merchants; never 0. */
  readonly #waitingOfPerson = new Map<string, number>();
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
   * within 2 s, or at once when too many wait already, of this user or of all; `HISTORY_UNAVAILABLE` when Elasticsearch does
   * not answer.
   */
  async reached(wanted: readonly Position[], { principal, caller }: Reader): Promise<ReadonlyMap<number, bigint>> {
    const isBounded = principal.role === "USER" || principal.role === "MERCHANT";
    const deadline = performance.now() + READ_AFTER_TIMEOUT_MS;
    let isCounted = false;
    try {
      for (;;) {
        // Listens before it reads, so that no hint is missed in between.
        const next = this.#nextHint(deadline);
        try {
          const numbers = await this.#read();
          const behind = wanted.find(({ shard, number }) => (numbers.get(shard) ?? 0n) < number);
          if (behind === undefined) return numbers;
          const isFull = isBounded && !isCounted && this.#waitingOf(caller) >= MAX_WAITING_READERS_PER_PERSON;
          if (isFull || performance.now() >= deadline || this.#waiting.size > MAX_WAITING_READERS) {
            const reached = isBounded ? undefined : (numbers.get(behind.shard) ?? 0n);
            throw refusals.projectionBehind(behind.shard, behind.number, reached);
          }
          if (isBounded && !isCounted) {
            this.#waitingOfPerson.set(caller, this.#waitingOf(caller) + 1);
            isCounted = true;
          }
          await next.came;
        } finally {
          next.cancel();
        }
      }
    } finally {
      if (isCounted) this.#endWaiting(caller);
    }
  }

  #waitingOf(caller: string): number {
    return this.#waitingOfPerson.get(caller) ?? 0;
  }

  #endWaiting(caller: string): void {
    const left = this.#waitingOf(caller) - 1;
    if (left === 0) this.#waitingOfPerson.delete(caller);
    else this.#waitingOfPerson.set(caller, left);
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
