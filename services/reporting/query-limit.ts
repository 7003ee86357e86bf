import { refusals } from "#services/reporting/refusals.ts";

/** Lets so many queries run at once and so many more wait, for so long; the rest is refused. */
export class QueryLimit {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #maxWaitMs: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(maxRunning: number, maxWaiting: number, maxWaitMs: number) {
    this.#maxRunning = maxRunning;
    this.#maxWaitMs = maxWaitMs;
    this.#maxWaiting = maxWaiting;
  }

  /** Runs a query when it is its turn. Throws a Refusal (`TOO_MANY_QUERIES`) when too many wait, or it waited too long. */
  async run<Answer>(query: () => Promise<Answer>): Promise<Answer> {
    if (this.#running >= this.#maxRunning) {
      if (this.#waiting.size >= this.#maxWaiting) throw refusals.tooManyQueries(this.#waiting.size);
      await this.#placeHandedOver();
    } else {
      this.#running += 1;
    }
    try {
      return await query();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  /** Who leaves hands its place to who has waited longest. Whose caller has gone by then must not delay the others. */
  #placeHandedOver(): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = () => {
        this.#waiting.delete(take);
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(take);
        reject(refusals.tooManyQueries(this.#waiting.size));
      }, this.#maxWaitMs);
      this.#waiting.add(take);
    });
  }
}
