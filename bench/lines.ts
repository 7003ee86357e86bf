import { type Harness, measureChecked, type Workload } from "#bench/harness.ts";
import { type Measurement, median, perSecond, summarize } from "#bench/measurement.ts";
import type { Row } from "#bench/table.ts";

/** A line of the table that takes turns with others. */
export interface Line extends Workload {
  /** What `--only` calls it. */
  readonly only: string;
  /** What the table calls it; no other line has the same. */
  readonly name: string;
  /** Who makes the load, where there is a choice. */
  readonly client?: string;
  /** The bound: so many times the fastest of these lines. */
  readonly atLeast?: { readonly times: number; readonly of: readonly string[] };
}

/** By the name of the line: one measurement a round. */
export type Measured = ReadonlyMap<string, readonly Measurement[]>;

/** Every line once in each round, so that whatever slows the machine down meets all of them. */
export async function measureInTurns(harness: Harness, lines: readonly Line[]): Promise<Measured> {
  const measured = new Map<string, Measurement[]>();
  for (let round = 1; round <= harness.rounds; round += 1) {
    harness.say(`round ${round} of ${harness.rounds}`);
    for (const line of lines) {
      if (!harness.wanted(line.only)) continue;
      const measurement = await measureChecked(harness, line);
      measured.set(line.name, [...(measured.get(line.name) ?? []), measurement]);
    }
  }
  return measured;
}

/** The row of a line that was measured, with its verdict when what it is compared with was measured too. */
export function toRow({ name, client, atLeast }: Line, measured: Measured): Row {
  const workload = client === undefined ? name : `${name}, ${client}`;
  const summary = summarize(measured.get(name) ?? []);
  if (atLeast === undefined) return { workload, summary };
  const ratio = medianRatio(measured, name, atLeast.of);
  if (Number.isNaN(ratio)) return { workload, summary };
  return { workload, summary, ratio, bound: `>= ${atLeast.times}`, met: ratio >= atLeast.times };
}

/** The median of the ratios of each round, to the fastest of the others in that round; NaN when nothing is to be compared. */
function medianRatio(measured: Measured, name: string, others: readonly string[]): number {
  const rates = (measured.get(name) ?? []).map(perSecond);
  const ratios = rates.map((rate, round) => {
    const compared = others.flatMap((other) => (measured.get(other) ?? [])[round] ?? []).map(perSecond);
    return compared.length === 0 ? Number.NaN : rate / Math.max(...compared);
  });
  return ratios.some(Number.isNaN) ? Number.NaN : median(ratios);
}
