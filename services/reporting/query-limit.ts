import { refusals } from "#services/reporting/refusals.ts";

/** Lets so many queries run at once and so many more wait; the rest is refused at once. */
export class QueryLimit {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(maxRunning: number, maxWaiting: number) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  /** Runs a query when it is its turn. Throws a Refusal (`TOO_MANY_QUERIES`) when too many wait. */
  async run<Answer>(query: () => Promise<Answer>): Promise<Answer> {
    if (this.#running >= this.#maxRunning) {
      if (this.#waiting.length >= this.#maxWaiting) throw refusals.tooManyQueries(this.#waiting.length);
      // Who leaves hands its place over.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      return await query();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
