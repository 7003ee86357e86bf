import type { Harness } from "#bench/harness.ts";
import type { Row } from "#bench/table.ts";

export const FULL_WORKLOADS = ["memory", "history", "full"];

export async function runFullWorkloads(_harness: Harness): Promise<Row[]> {
  return [];
}
