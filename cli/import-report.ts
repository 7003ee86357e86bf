import Table from "cli-table3";
import { fileTotals } from "#cli/check-totals.ts";
import type { ImportResult } from "#cli/import.ts";
import { formatCount } from "#cli/progress.ts";
import { formatMoney } from "#lib/money.ts";

/** What an import says at its end, for people and for programs. */

/** More would hide the summary; `--json` has all. */
const MAX_LINES_SHOWN = 50;

/** Whether everything is in and as it has to be. */
export function isComplete({ badRows, totals }: ImportResult): boolean {
  return badRows.length === 0 && totals.differences.length === 0;
}

/** The report for people: bad rows, differences, totals, verdict. */
export function importReport(result: ImportResult): string {
  const { badRows, totals, file, posted, replayed, durationMs } = result;
  const lines = [
    ...section(
      "Rows left out:",
      badRows.map(({ line, reason }) => `line ${line}: ${reason}`),
    ),
    totalsTable(result),
    `${formatCount(posted)} rows are in the ledger (${formatCount(replayed)} of them were before), ` +
      `${formatCount(file.repeatedRows)} said twice by the file, ${formatCount(badRows.length)} left out; ` +
      `${(durationMs / 1_000).toFixed(1)} s.`,
    ...section("What differs:", totals.differences),
  ];
  if (totals.differences.length > 0) lines.push("NOT OK: the ledger is not as the file says.");
  else if (badRows.length > 0) lines.push("OK, but for the rows left out: every other balance is as the file says.");
  else lines.push("OK: every balance is as the file says, and each shard sums to zero.");
  return `${lines.join("\n")}\n`;
}

function section(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const hidden = lines.length - MAX_LINES_SHOWN;
  return [
    title,
    ...lines.slice(0, MAX_LINES_SHOWN).map((line) => `  ${line}`),
    ...(hidden > 0 ? [`  … and ${formatCount(hidden)} more (--json lists all)`] : []),
  ];
}

function totalsTable({ totals, file, badRows }: ImportResult): string {
  const table = new Table({
    head: ["", "accounts", "credits", "debits", "balance", "counterparties"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    // No colours: the output may be a file.
    style: { head: [], border: [], compact: true },
  });
  const badLines = new Set(badRows.map(({ line }) => line));
  for (const { currency, creditsMinorUnits, debitsMinorUnits } of fileTotals(file, badLines)) {
    table.push([
      "file",
      formatCount(file.accounts.filter((account) => account.currency === currency).length),
      formatMoney(creditsMinorUnits, currency),
      formatMoney(debitsMinorUnits, currency),
      formatMoney(creditsMinorUnits - debitsMinorUnits, currency),
      "",
    ]);
    for (const line of totals.lines.filter((candidate) => candidate.currency === currency)) {
      table.push([
        `shard ${line.shard}`,
        formatCount(line.accounts),
        formatMoney(line.creditsMinorUnits, currency),
        formatMoney(line.debitsMinorUnits, currency),
        formatMoney(line.accountsMinorUnits, currency),
        formatMoney(line.counterpartiesMinorUnits, currency),
      ]);
    }
  }
  return table.toString();
}

/** The report for programs: amounts in minor units, as text. */
export function importJson(result: ImportResult): string {
  const { book, file, opened, tally, posted, replayed, badRows, totals, position, durationMs } = result;
  const report = {
    ok: isComplete(result),
    book,
    rows: file.rows,
    posted,
    replayed,
    repeated_rows: file.repeatedRows,
    bad_rows: badRows,
    differences: totals.differences,
    totals: totals.lines.map((line) => ({
      shard: line.shard,
      currency: line.currency,
      accounts: line.accounts,
      counterparties: line.counterparties,
      credits_minor_units: line.creditsMinorUnits.toString(),
      debits_minor_units: line.debitsMinorUnits.toString(),
      accounts_minor_units: line.accountsMinorUnits.toString(),
      counterparties_minor_units: line.counterpartiesMinorUnits.toString(),
    })),
    accounts: [...opened].map(([name, { accountId, shard }]) => ({
      account: name,
      account_id: accountId,
      shard,
      balance_minor_units: totals.balances.get(accountId)?.toString(),
    })),
    counterparties: [...tally.accounts.values()]
      .filter(({ role }) => role === "counterparty")
      .map(({ name, accountId, shard }) => ({
        name,
        account_id: accountId,
        shard,
        balance_minor_units: totals.balances.get(accountId)?.toString(),
      })),
    position,
    duration_ms: Math.round(durationMs),
  };
  return `${JSON.stringify(report)}\n`;
}
