/** Waiting, always bounded and always ended by an AbortSignal. */

/** Waits so long, or until the signal aborts; never throws. */
export function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || durationMs <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, durationMs);
    signal.addEventListener("abort", end);
  });
}

/** What the promise resolves to; rejects as soon as the signal aborts, and leaves the promise to itself then. */
export async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The pauses between tries: they double from `firstMs` to `capMs`, each shortened by up to half by chance. */
export class BackOff {
  readonly #firstMs: number;
  readonly #capMs: number;
  #nextMs: number;

  constructor(firstMs: number, capMs: number) {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
    this.#nextMs = firstMs;
  }

  /** Waits before the next try. */
  async wait(signal: AbortSignal): Promise<void> {
    const durationMs = this.#nextMs * (0.5 + Math.random() / 2);
    this.#nextMs = Math.min(this.#nextMs * 2, this.#capMs);
    await pause(durationMs, signal);
  }

  /** It worked: the next pause is a short one again. */
  reset(): void {
    this.#nextMs = this.#firstMs;
  }
}

/** Lets one loop sleep until somebody has something for it. A notice given while nobody waits is kept, several count as one. */
export class Wake {
  #noticed = false;
  #resume: (() => void) | undefined;

  notify(): void {
    this.#noticed = true;
    this.#resume?.();
  }

  /** Ends with the next notice (true), or after so long, or when the signal aborts (false). */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (!this.#noticed && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#resume = () => {
          clearTimeout(timer);
          resolve();
        };
        signal.addEventListener("abort", this.#resume, { once: true });
      });
      if (this.#resume !== undefined) signal.removeEventListener("abort", this.#resume);
      this.#resume = undefined;
    }
    const noticed = this.#noticed;
    this.#noticed = false;
    return noticed;
  }
}
