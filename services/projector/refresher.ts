import type { Elasticsearch } from "#lib/elasticsearch.ts";

/**
 * Refreshes for all shards of the process together: their documents are in the same indices, so one refresh makes the
 * documents of every shard visible. A refresh costs about as much as writing hundreds of documents, and leaves a small
 * segment to be merged: so they are spaced, and the slower they are the more.
 */
const REFRESH_INTERVAL_MS = 200;

export class Refresher {
  readonly #refresh: (indices: string[]) => Promise<void>;
  readonly #indices = new Set<string>();
  #earliestStartMs = 0;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** `refresh` makes the indices' documents visible to searches. */
  constructor(refresh: (indices: string[]) => Promise<void>) {
    this.#refresh = refresh;
  }

  /** Resolves when what was written to the indices before the call is visible. Rejects when Elasticsearch does not answer. */
  refresh(indices: Iterable<string>): Promise<void> {
    for (const index of indices) this.#indices.add(index);
    this.#next ??= this.#waitAndRun();
    return this.#next;
  }

  async #waitAndRun(): Promise<void> {
    await this.#running?.catch(() => {});
    const waitMs = this.#earliestStartMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
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
      // At most half of the time is spent on refreshes.
      this.#earliestStartMs = Math.max(startedAtMs + REFRESH_INTERVAL_MS, endedAtMs + (endedAtMs - startedAtMs));
    }
  }
}

/** One refresh by Elasticsearch. Rejects when a copy of an index was not refreshed. */
export async function refreshIndices(elasticsearch: Elasticsearch, indices: string[]): Promise<void> {
  const { _shards: copies } = await elasticsearch.indices.refresh({ index: indices });
  if (copies === undefined || copies.failed > 0) throw new Error(`${copies?.failed} copies were not refreshed`);
}
