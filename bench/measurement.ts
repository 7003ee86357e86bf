/** What one measurement of one workload brought. */
export interface Measurement {
  /** Transfers answered as posted, the warm-up included. */
  readonly acknowledged: number;
  readonly failed: number;
  /** Calls that were refused because there were too many (RESOURCE_EXHAUSTED); not among the failed ones. */
  readonly refused?: number;
  readonly firstFailures: readonly string[];
  readonly measuredMs: number;
  /** Of the transfers answered within the measured time. */
  readonly latenciesUs: Uint32Array;
}

/** Several measurements of one workload, as one line of the table shows them. */
export interface Summary {
  /** The median of the rounds. */
  readonly perSecond: number;
  /** Of each round. */
  readonly rounds: readonly number[];
  /** Over the calls of all rounds. */
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export function perSecond({ latenciesUs, measuredMs }: Measurement): number {
  return (latenciesUs.length * 1000) / measuredMs;
}

export function summarize(measurements: readonly Measurement[]): Summary {
  const rounds = measurements.map(perSecond);
  const all = new Uint32Array(measurements.reduce((sum, { latenciesUs }) => sum + latenciesUs.length, 0));
  let filled = 0;
  for (const { latenciesUs } of measurements) {
    all.set(latenciesUs, filled);
    filled += latenciesUs.length;
  }
  all.sort();
  const ms = (fraction: number) => percentile(all, fraction) / 1000;
  return { perSecond: median(rounds), rounds, p50Ms: ms(0.5), p95Ms: ms(0.95), p99Ms: ms(0.99), maxMs: ms(1) };
}

/**
 * The smallest value that is not below a fraction (0..1] of all: the nearest-rank percentile.
 * `sorted` rises; NaN when it is empty.
 */
export function percentile(sorted: ArrayLike<number>, fraction: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * fraction) - 1)] ?? Number.NaN;
}

/** The middle value, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const lower = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  return (lower + upper) / 2;
}
