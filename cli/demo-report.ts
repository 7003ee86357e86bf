import Table from "cli-table3";
import { type DemoResult, ENTRIES_SHOWN } from "#cli/demo.ts";
import { type HistoryAnswer, historyUrl } from "#cli/history.ts";
import { formatCount } from "#cli/progress.ts";
import type { Resident } from "#cli/resident.ts";
import { statementTable } from "#cli/statement.ts";
import { formatMoney } from "#lib/money.ts";

/** What the demo prints at its end. */

/** The money of each currency, and that it comes to zero. */
export function moneyTable({ economy, balances }: DemoResult): string {
  const table = new Table({
    head: ["town", "shard", "payments", "with people and shops", "with system accounts", "sum"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, currency } of economy.towns) {
    const here = balances.filter((balance) => balance.currency === currency);
    const system = sum(here.filter((balance) => balance.name.startsWith("system:")));
    const all = sum(here);
    table.push([
      name,
      here[0]?.shard,
      formatCount(economy.payments.filter(({ town }) => town.name === name).length),
      formatMoney(all - system, currency),
      formatMoney(system, currency),
      formatMoney(all, currency),
    ]);
  }
  return table.toString();
}

function sum(balances: DemoResult["balances"]): bigint {
  return balances.reduce((total, { balanceMinorUnits }) => total + balanceMinorUnits, 0n);
}

/** What went wrong: payments, balances, a currency that does not come to zero. */
export function demoFaults({ economy, balances, faults }: DemoResult): string[] {
  const open = economy.towns.filter(
    ({ currency }) => sum(balances.filter((balance) => balance.currency === currency)) !== 0n,
  );
  return [...faults, ...open.map(({ currency }) => `${currency} does not come to zero`)];
}

export function statement({ example, entries, names }: DemoResult): string {
  const { party, town, accountId } = example;
  const table = statementTable(entries, (id) => names.get(id) ?? id);
  return `Statement of ${party.name} of ${town.name}, ${accountId}, newest first:\n${table}`;
}

/** What the history said, against the ledger's own entries. `fault` when something is wrong. */
export function historyReport(
  { entries }: DemoResult,
  gateway: string,
  answer: HistoryAnswer,
): { readonly text: string; readonly fault: boolean } {
  switch (answer.kind) {
    case "no_gateway":
      return {
        text: `Nothing answers at ${gateway}: start it (make start) to see this in the history, too.`,
        fault: false,
      };
    case "failed":
      return { text: `The history at ${gateway} did not answer as it should: ${answer.message}`, fault: true };
    case "entries": {
      const written = entries.map((entry) => `${entry.sequence} ${entry.transferId} ${entry.balanceAfterMinorUnits}`);
      const seen = answer.entries.map(
        (line) => `${line.sequence} ${line.transfer_id} ${line.balance_after_minor_units}`,
      );
      if (written.join() !== seen.join()) {
        return { text: "The history has other entries than the ledger.", fault: true };
      }
      const waited = Math.round(answer.waitedMs);
      return {
        text: `The history shows the same, ${waited} ms after it was asked for the ledger's position.`,
        fault: false,
      };
    }
  }
}

/** Lines to paste. */
export function linesToTry({ example, position }: DemoResult, gateway: string): string {
  const { party, accountId, resident } = example;
  const account = `${gateway}/v1/ledger/accounts/${accountId}`;
  const history = historyUrl(gateway, accountId, ENTRIES_SHOWN);
  return [
    ...(resident === undefined
      ? ["Try, for example, as a service:", `  AUTH="${SERVICE_AUTH}"`]
      : [`Try, for example, as ${party.name}, and as a service:`, ...signInLines(gateway, resident)]),
    `  curl -s -H "$AUTH" -H 'x-read-after: ${position}' '${history}'`,
    `  curl -s -H "$AUTH" '${history}&type=salary'`,
    ...(resident === undefined ? [] : [`  AUTH="${SERVICE_AUTH}"`]),
    `  curl -s -H "$AUTH" '${account}'`,
    `  curl -s -H "$AUTH" '${account}/entries?page_size=${ENTRIES_SHOWN}'`,
  ].join("\n");
}

const SERVICE_AUTH = "authorization: Bearer $(make -s token ROLE=service)";

function signInLines(gateway: string, { email, password }: Resident): string[] {
  const body = JSON.stringify({ email, password });
  return [
    `  SIGN_IN=$(curl -s '${gateway}/v1/sessions' -H 'content-type: application/json' -d '${body}')`,
    `  AUTH="authorization: Bearer $(node -p 'JSON.parse(process.argv[1]).access_token' "$SIGN_IN")"`,
  ];
}
