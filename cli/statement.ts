import Table from "cli-table3";
import { formatMoney } from "#lib/money.ts";
import type { Entry } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Entries of an account as a table for people, in their order; `nameOf` names a counterparty. */
export function statementTable(entries: readonly Entry[], nameOf: (accountId: string) => string): string {
  const table = new Table({
    head: ["when (UTC)", "what", "with", "memo", "amount", "balance"],
    colAligns: ["left", "left", "left", "left", "right", "right"],
    // No colours: the output may be a file.
    style: { head: [], border: [], compact: true },
  });
  for (const entry of entries) {
    const { effectiveTime, type, memo, counterpartyAccountId, currency } = entry;
    table.push([
      effectiveTime?.toISOString().slice(0, 16).replace("T", " ") ?? "",
      type,
      nameOf(counterpartyAccountId),
      memo,
      formatMoney(entry.amountMinorUnits, currency),
      formatMoney(entry.balanceAfterMinorUnits, currency),
    ]);
  }
  return table.toString();
}
