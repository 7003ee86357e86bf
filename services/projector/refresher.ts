import { setTimeout } from "node:timers/promises";
import type { Elasticsearch } from "#lib/elasticsearch.ts";

/**
 * Refreshes for all shards of the process together: their documents are in the same indices, so one refresh makes the
 * documents of every shard visible. A refresh costs about as much as writing hundreds of documents, and leaves a small
 * segment to be merged: so they are spaced, and the slower they are the more.
 */
const REFRESH_INTERVAL_MS = 400;
/** After a slow refresh, as a share of the time that it took. */
const PAUSE_SHARE = 0.5;
/** Shards write when a refresh is due, but do not wake at the same moment: the first waits so long for the others to begin, */
const GATHER_MS = 25;
/** and so long for them to end. Without it they would take turns, and each would wait for the refreshes of all. */
const MAX_WRITE_MS = 500;

export class Refresher {
  readonly #refresh: (indices: string[]) => Promise<void>;
  readonly #indices = new Set<string>();
  readonly #writes = new Set<Promise<void>>();
  #earliestStartMs = 0;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** `refresh` makes the indices' documents visible to searches. */
  constructor(refresh: (indices: string[]) => Promise<void>) {
    this.#refresh = refresh;
  }

  /** How long until a refresh may begin: what is written until then costs no more. */
  dueInMs(): number {
    return Math.max(0, this.#earliestStartMs - performance.now());
  }

  /** A write that the next refresh shall wait for; answers it. */
  async gather(write: Promise<void>): Promise<void> {
    this.#writes.add(write);
    try {
      await write;
    } finally {
      this.#writes.delete(write);
    }
  }

  /** Resolves when what was written to the indices before the call is visible. Rejects when Elasticsearch does not answer. */
  refresh(indices: Iterable<string>): Promise<void> {
    for (const index of indices) this.#indices.add(index);
    this.#next ??= this.#waitAndRun();
    return this.#next;
  }

  async #waitAndRun(): Promise<void> {
    await this.#running?.catch(() => {});
    await setTimeout(this.dueInMs() + GATHER_MS);
    const patience = new AbortController();
    await Promise.race([
      Promise.allSettled(this.#writes),
      setTimeout(MAX_WRITE_MS, undefined, { signal: patience.signal }).catch(() => {}),
    ]);
    patience.abort();
    // From here on, who comes may have written too late for this one.
    this.#running = this.#next;
    this.#next = undefined;
    const indices = [...this.#indices];
    this.#indices.clear();
    const startedAtMs = performance.now();
    try {
      await this.#refresh(indices);
    } finally {
      const endedAtMs = performance.now();
      const pauseMs = (endedAtMs - startedAtMs) * PAUSE_SHARE;
      this.#earliestStartMs = Math.max(startedAtMs + REFRESH_INTERVAL_MS, endedAtMs + pauseMs);
    }
  }
}

/** One refresh by Elasticsearch. Rejects when a copy of an index was not refreshed. */
export async function refreshIndices(elasticsearch: Elasticsearch, indices: string[]): Promise<void> {
  const { _shards: copies } = await elasticsearch.indices.refresh({ index: indices });
  if (copies === undefined || copies.failed > 0) throw new Error(`${copies?.failed} copies were not refreshed`);
}
