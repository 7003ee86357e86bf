import Table from "cli-table3";
import type { AuditResult, ShardAudit } from "#cli/audit-verify.ts";
import { formatCount } from "#cli/progress.ts";
import type { Verification } from "#cli/verify-events.ts";

/** What an audit says at its end, for people and for programs. */

/** The relay seals within a second. */
const SEALED_WITHIN_MS = 60_000;

type Verdict = "OK" | "NOT_OK" | "IMPOSSIBLE";

/** A problem that was found counts more than a shard that could not be checked. */
export function auditVerdict({ shards }: AuditResult): Verdict {
  if (shards.some((audit) => audit.kind === "verified" && audit.verification.problemCount > 0)) return "NOT_OK";
  return shards.some(({ kind }) => kind === "impossible") ? "IMPOSSIBLE" : "OK";
}

const VERDICTS: Readonly<Record<Verdict, string>> = {
  OK: "OK: every sealed event is as it was sealed, and none is missing.",
  NOT_OK: "NOT OK: the log is not as it was sealed. docs/audit.md says what each problem means.",
  IMPOSSIBLE: "NOT CHECKED: some shards could not be read.",
};

/** The report for people. */
export function auditReport(result: AuditResult): string {
  const verified = result.shards.flatMap((audit) => (audit.kind === "verified" ? [audit.verification] : []));
  const lines = [
    ...(verified.length > 0 ? [summary(verified)] : []),
    ...result.shards.flatMap(remarks),
    ...(verified.length > 0
      ? [
          "The chains now. Kept where nobody who can change the databases can change them, they let a later audit show that",
          "everything up to here is still the same:",
          ...verified.map((verification) => `  --expect ${anchorOf(verification)}`),
        ]
      : []),
    `${VERDICTS[auditVerdict(result)]} (${(result.durationMs / 1_000).toFixed(1)} s)`,
  ];
  return `${lines.join("\n")}\n`;
}

function summary(verified: readonly Verification[]): string {
  const table = new Table({
    head: ["", "events", "sealed up to", "not sealed yet", "seals", "problems"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    // No colours: the output may be a file.
    style: { head: [], border: [], compact: true },
  });
  for (const { end, events, seals, problemCount } of verified)
    table.push([
      `shard ${end.shard}`,
      formatCount(Number(events)),
      formatCount(Number(end.sealedTo)),
      formatCount(Number(unsealed(end))),
      formatCount(Number(seals)),
      formatCount(problemCount),
    ]);
  return table.toString();
}

function remarks(audit: ShardAudit): string[] {
  if (audit.kind === "impossible") return [`shard ${audit.shard} cannot be checked: ${audit.reason}`];
  const { problems, problemCount, unsealedForMs, end } = audit.verification;
  const hidden = problemCount - problems.length;
  return [
    ...problems.map(({ reason, message }) => `shard ${end.shard}: ${reason}: ${message}`),
    ...(hidden > 0 ? [`shard ${end.shard}: … and ${formatCount(hidden)} more`] : []),
    ...(unsealedForMs > SEALED_WITHIN_MS
      ? [
          `shard ${end.shard}: events wait for their seal since ${Math.round(unsealedForMs / 1_000)} s, unprotected: does the relay run?`,
        ]
      : []),
  ];
}

const unsealed = ({ head, sealedTo }: Verification["end"]) => (head > sealedTo ? head - sealedTo : 0n);

const anchorOf = ({ end, chainHash }: Verification) => `${end.shard}:${end.sealedTo}:${chainHash.toString("hex")}`;

/** The report for programs: numbers of events as text. */
export function auditJson(result: AuditResult): string {
  const report = {
    ok: auditVerdict(result) === "OK",
    verdict: auditVerdict(result),
    shards: result.shards.map((audit) => {
      if (audit.kind === "impossible") return { shard: audit.shard, verified: false, reason: audit.reason };
      const { end, events, seals, chainHash, unsealedForMs, problems, problemCount } = audit.verification;
      return {
        shard: audit.shard,
        verified: true,
        head: end.head.toString(),
        events: events.toString(),
        seals: seals.toString(),
        sealed_to: end.sealedTo.toString(),
        chain_hash: chainHash.toString("hex"),
        anchor: anchorOf(audit.verification),
        unsealed: unsealed(end).toString(),
        unsealed_for_ms: unsealedForMs,
        problem_count: problemCount,
        problems: problems.map(({ reason, firstNumber, lastNumber, message }) => ({
          reason,
          first_number: firstNumber.toString(),
          last_number: lastNumber.toString(),
          message,
        })),
      };
    }),
    duration_ms: Math.round(result.durationMs),
  };
  return `${JSON.stringify(report)}\n`;
}
