import type { Answer, Finding, History } from "#tests/torture/history.ts";

/** What is said while it runs, and what is left in the end. */
export interface Report {
  readonly say: (line: string) => void;
  /** A fault was struck at a target; undefined: there was nothing to strike. */
  readonly strike: (fault: string, target: string | undefined) => void;
  /** A staged fault: at which step of a protocol, and whether the step was reached. */
  readonly stage: (step: string, fault: string, target: string, reached: boolean) => void;
  readonly countOf: (fault: string) => number;
  readonly faultCount: () => number;
  readonly addFindings: (findings: readonly Finding[]) => void;
  readonly summary: () => Summary;
  readonly stagedTable: () => string;
}

export interface Summary {
  readonly seed: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly faultCount: number;
  /** By step, and then by fault. */
  readonly staged: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly answers: Readonly<Record<Answer["kind"], number>>;
  readonly findings: readonly Finding[];
}

export function openReport(seed: number, history: History, print: (line: string) => void): Report {
  const startedMs = performance.now();
  const counts = new Map<string, number>();
  const staged = new Map<string, Map<string, number>>();
  const findings: Finding[] = [];
  let total = 0;
  let missed = 0;

  const say = (line: string) => print(`${((performance.now() - startedMs) / 1_000).toFixed(1).padStart(7)} s  ${line}`);
  const counted = (name: string, line: string) => {
    total += 1;
    counts.set(name, (counts.get(name) ?? 0) + 1);
    history.write({ fault: line, at: new Date() });
    say(`fault ${String(total).padStart(3)}  ${line}`);
  };
  return {
    say,
    strike(fault, target) {
      if (target === undefined) missed += 1;
      else counted(fault, `${fault}: ${target}`);
    },
    stage(step, fault, target, reached) {
      if (!reached) {
        missed += 1;
        say(`           at ${step}: ${fault} was not struck, the step was not reached (${target})`);
        return;
      }
      const row = staged.get(step) ?? new Map<string, number>();
      staged.set(step, row.set(fault, (row.get(fault) ?? 0) + 1));
      counted(`staged ${fault}`, `at ${step}: ${fault} ${target}`);
    },
    countOf: (fault) => counts.get(fault) ?? 0,
    faultCount: () => total,
    addFindings(more) {
      for (const { what, ids } of more) {
        if (findings.some((known) => known.what === what)) continue;
        findings.push({ what, ids });
        say(`FOUND  ${what}: ${ids.join(", ")}`);
      }
    },
    summary: () => ({
      seed,
      faults: { ...Object.fromEntries(counts), "(nothing to strike)": missed },
      faultCount: total,
      staged: Object.fromEntries([...staged].map(([step, row]) => [step, Object.fromEntries(row)])),
      answers: { ...history.counts() },
      findings,
    }),
    stagedTable() {
      const names = [...new Set([...staged.values()].flatMap((row) => [...row.keys()]))];
      const width = Math.max(8, ...[...staged.keys()].map((step) => step.length));
      const line = (first: string, cells: readonly (string | number)[]) =>
        [first.padEnd(width), ...cells.map((cell, index) => String(cell).padStart((names[index] ?? "").length))].join(
          "  ",
        );
      return [
        line("step", names),
        ...[...staged].map(([step, row]) =>
          line(
            step,
            names.map((name) => row.get(name) ?? 0),
          ),
        ),
      ].join("\n");
    },
  };
}
