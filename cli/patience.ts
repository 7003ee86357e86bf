import { BackOff } from "#lib/back-off.ts";

/** Trying again, for a while: every command has an idempotency key, so a repeated one is made once. */

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
/** A service that was killed is back long before. */
const PATIENCE_MS = 60_000;
/** Of a shorter delay nobody needs to hear. */
const SILENT_MS = 1_000;

/** The user pressed Ctrl-C. */
export class Interrupted extends Error {}

/** It did not work for too long; the message is the last answer. */
export class GaveUp extends Error {}

export class Patience {
  readonly #backOff = new BackOff(FIRST_PAUSE_MS, MAX_PAUSE_MS);
  readonly #startedMs = performance.now();
  readonly #signal: AbortSignal;
  readonly #onWait: (reason: string) => void;
  #said = false;

  /** `onWait` is told, once, that it takes longer than a moment, and why. */
  constructor(signal: AbortSignal, onWait: (reason: string) => void) {
    this.#signal = signal;
    this.#onWait = onWait;
  }

  /** Waits before the next try. Throws GaveUp when it has been too long, Interrupted when the user wants to stop. */
  async wait(reason: string): Promise<void> {
    const waitedMs = performance.now() - this.#startedMs;
    if (waitedMs > PATIENCE_MS) throw new GaveUp(reason);
    if (waitedMs > SILENT_MS && !this.#said) {
      this.#said = true;
      this.#onWait(reason);
    }
    await this.#backOff.wait(this.#signal);
    if (this.#signal.aborted) throw new Interrupted("Stopped.");
  }
}
