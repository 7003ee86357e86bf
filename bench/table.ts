import type { Summary } from "#bench/measurement.ts";

/** One line of the table of results. */
export interface Row {
  readonly workload: string;
  /** What was measured; absent for a figure of another kind. */
  readonly summary?: Summary;
  /** The figure instead of transfers/s, such as "1.2 GiB". */
  readonly figure?: string;
  /** Against the raw line of the same run. */
  readonly ratio?: number;
  /** Such as ">= 0.8"; absent: reported only. */
  readonly bound?: string;
  readonly met?: boolean;
}

const HEADINGS = ["workload", "transfers/s", "p50 ms", "p95 ms", "p99 ms", "ratio", "bound", ""];

/** The rows as a Markdown table that is also readable as it is. */
export function formatTable(rows: readonly Row[]): string {
  const cells = [HEADINGS, ...rows.map(toCells)];
  const widths = HEADINGS.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  const toLine = (line: readonly string[]) =>
    `| ${line.map((text, column) => (column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0))).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => `${"-".repeat(width + 1)}${column === 0 ? "-" : ":"}`).join("|")}|`;
  const [headings = "", ...lines] = cells.map(toLine);
  return [headings, rule, ...lines].join("\n");
}

function toCells({ workload, summary, figure, ratio, bound, met }: Row): string[] {
  const ms = (value: number | undefined) => (value === undefined ? "" : value.toFixed(1));
  return [
    workload,
    figure ?? (summary === undefined ? "" : Math.round(summary.perSecond).toLocaleString("en")),
    ms(summary?.p50Ms),
    ms(summary?.p95Ms),
    ms(summary?.p99Ms),
    ratio === undefined ? "" : ratio.toFixed(2),
    bound ?? "",
    met === undefined ? "" : met ? "met" : "MISSED",
  ];
}
