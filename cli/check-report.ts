import Table from "cli-table3";
import type { CheckResult } from "#cli/check.ts";
import { type Finding, INVARIANTS, type Outcome } from "#cli/check-findings.ts";
import { formatCount } from "#cli/progress.ts";

/** What a check says at its end, for people and for programs. */

type Verdict = "OK" | "NOT_OK" | "IMPOSSIBLE";

/** What was found broken counts more than what could not be checked. */
export function checkVerdict({ outcomes }: CheckResult): Verdict {
  if (outcomes.some(({ findingCount }) => findingCount > 0)) return "NOT_OK";
  return outcomes.some(({ impossible }) => impossible !== undefined) ? "IMPOSSIBLE" : "OK";
}

const VERDICTS: Readonly<Record<Verdict, string>> = {
  OK: "OK: everything that was checked holds.",
  NOT_OK: "NOT OK: something is broken. docs/check.md says what each reason means and what to do.",
  IMPOSSIBLE: "NOT CHECKED: something could not be checked; nothing that was is broken.",
};

/** The report for people. */
export function checkReport(result: CheckResult): string {
  const table = new Table({
    head: ["shard", "invariant", "checked", "result"],
    // No colours: the output may be a file.
    style: { head: [], border: [], compact: true },
  });
  for (const { shard, invariant, checked, findingCount, impossible } of result.outcomes) {
    const counts = Object.entries(checked).map(([what, count]) => `${formatCount(count)} ${what}`);
    const verdict =
      findingCount > 0 ? `${formatCount(findingCount)} broken` : impossible === undefined ? "holds" : "not checked";
    table.push([String(shard), `${invariant} ${INVARIANTS[invariant]}`, counts.join(", "), verdict]);
  }
  const lines = [
    table.toString(),
    ...result.outcomes.flatMap(details),
    `${VERDICTS[checkVerdict(result)]} (${(result.durationMs / 1_000).toFixed(1)} s)`,
  ];
  return `${lines.join("\n")}\n`;
}

function details({ shard, invariant, findings, findingCount, remarks, impossible }: Outcome): string[] {
  const where = `shard ${shard}, ${invariant}`;
  const hidden = findingCount - findings.length;
  return [
    ...findings.map((finding) => `${where}: ${describeFinding(finding)}`),
    ...(hidden > 0 ? [`${where}: … and ${formatCount(hidden)} more`] : []),
    ...(impossible === undefined ? [] : [`${where}: could not be checked: ${impossible}`]),
    ...remarks.map((remark) => `${where}: ${remark}`),
  ];
}

function describeFinding({ reason, ids, expected, found }: Finding): string {
  const names = Object.entries(ids).map(([name, id]) => `${name} ${id}`);
  return `${reason}: ${names.join(", ")}: expected ${expected}; found ${found}`;
}

/** The report for programs: ids and amounts as text (docs/check.md has the shape). */
export function checkJson(result: CheckResult): string {
  const verdict = checkVerdict(result);
  const report = {
    ok: verdict === "OK",
    verdict,
    results: result.outcomes.map(({ shard, invariant, checked, findings, findingCount, remarks, impossible }) => ({
      shard,
      invariant,
      name: INVARIANTS[invariant],
      holds: impossible !== undefined && findingCount === 0 ? null : findingCount === 0,
      checked,
      finding_count: findingCount,
      findings,
      remarks,
      ...(impossible === undefined ? {} : { not_checked_because: impossible }),
    })),
    duration_ms: Math.round(result.durationMs),
  };
  return `${JSON.stringify(report)}\n`;
}
