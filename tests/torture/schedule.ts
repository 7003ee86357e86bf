import type { Random } from "#cli/random.ts";
import { pause } from "#lib/back-off.ts";
import { type Fault, type FaultContext, faults } from "#tests/torture/faults.ts";
import type { Report } from "#tests/torture/report.ts";

/** Which fault when: one after the other with pauses, as the seed says. */

const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 3_000;

/** Strikes until the signal aborts; every fault is undone when this resolves. */
export async function strikeAtRandom(
  ctx: FaultContext,
  candidates: readonly Fault[],
  random: Random,
  report: Report,
): Promise<void> {
  const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return;
  while (!ctx.signal.aborted) {
    await pause(random.between(MIN_PAUSE_MS, MAX_PAUSE_MS), ctx.signal);
    if (ctx.signal.aborted) return;
    const fault = choose(candidates, total * random.next());
    if (report.countOf(fault.name) >= (fault.most ?? Number.POSITIVE_INFINITY)) continue;
    report.strike(fault.name, await fault.strike(ctx, random));
  }
}

function choose(candidates: readonly Fault[], at: number): Fault {
  let left = at;
  for (const fault of candidates) {
    left -= fault.weight;
    if (left < 0) return fault;
  }
  return candidates[0] as Fault;
}

/** The faults that make sense with these parts, and that were asked for. */
export function usableFaults(parts: readonly string[], only: readonly string[]): readonly Fault[] {
  return faults
    .filter(({ needs }) => needs === undefined || parts.includes(needs))
    .filter(({ name }) => only.length === 0 || only.some((beginning) => name.startsWith(beginning)));
}
