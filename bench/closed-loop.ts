import { FAILURES_SHOWN } from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";

/** One call: answers how many transfers it made; rejects when there is one that it did not make. */
export type MakeCall = () => Promise<number>;

/**
 * A closed loop in this process: each caller makes its next call when the last one was answered, and calls under way at the
 * end are waited for. The latency of a transfer is that of its call.
 */
export async function measureClosedLoop(
  callers: readonly MakeCall[],
  warmUpMs: number,
  measureMs: number,
): Promise<Measurement> {
  const measureFromMs = performance.now() + warmUpMs;
  const endMs = measureFromMs + measureMs;
  const latenciesUs: number[] = [];
  const firstFailures: string[] = [];
  let acknowledged = 0;
  let failed = 0;

  async function work(makeCall: MakeCall): Promise<void> {
    for (let sentMs = performance.now(); sentMs < endMs; sentMs = performance.now()) {
      let made: number;
      try {
        made = await makeCall();
      } catch (error) {
        failed += 1;
        if (failed <= FAILURES_SHOWN) firstFailures.push(String(error));
        continue;
      }
      const answeredMs = performance.now();
      acknowledged += made;
      if (answeredMs <= measureFromMs || answeredMs >= endMs) continue;
      for (let transfer = 0; transfer < made; transfer += 1) latenciesUs.push((answeredMs - sentMs) * 1000);
    }
  }

  await Promise.all(callers.map(work));
  return { acknowledged, failed, firstFailures, measuredMs: measureMs, latenciesUs: Uint32Array.from(latenciesUs) };
}
