import type { BankFile } from "#cli/bank-file.ts";
import { forEachBounded } from "#cli/bounded.ts";
import type { Ledger } from "#cli/ledger.ts";
import type { TalliedAccount, Tally } from "#cli/tally.ts";
import { formatMoney } from "#lib/money.ts";

/** The check after an import: what the ledger holds now against what the file says. */
export interface Totals {
  readonly lines: readonly TotalsLine[];
  /** Everything that is not as it has to be; none is what one hopes for. */
  readonly differences: readonly string[];
  /** Balances as read back, by account id. */
  readonly balances: ReadonlyMap<string, bigint>;
}

/** One shard and currency, as read back from the ledger. */
export interface TotalsLine {
  readonly shard: number;
  readonly currency: string;
  accounts: number;
  counterparties: number;
  creditsMinorUnits: bigint;
  debitsMinorUnits: bigint;
  /** Sum of the balances of the file's accounts. */
  accountsMinorUnits: bigint;
  /** Sum of the balances of their counterparties: the same with the other sign. */
  counterpartiesMinorUnits: bigint;
}

const READS_AT_ONCE = 32;

/** Reads every account and counterparty of the tally back. `refusedLines` are rows that the ledger did not take. */
export async function checkTotals(
  ledger: Ledger,
  tally: Tally,
  file: BankFile,
  refusedLines: ReadonlySet<number>,
  onRead: () => void,
): Promise<Totals> {
  const balances = new Map<string, bigint>();
  await forEachBounded([...tally.accounts.keys()], READS_AT_ONCE, async (accountId) => {
    balances.set(accountId, (await ledger.readAccount(accountId)).postedMinorUnits);
    onRead();
  });
  return compareTotals([...tally.accounts.values()], balances, file, refusedLines);
}

/** The comparison alone. */
export function compareTotals(
  accounts: readonly TalliedAccount[],
  balances: ReadonlyMap<string, bigint>,
  file: BankFile,
  refusedLines: ReadonlySet<number>,
): Totals {
  const lines = new Map<string, TotalsLine>();
  const differences: string[] = [];
  for (const account of accounts) {
    const { accountId, name, role, currency, shard, creditsMinorUnits, debitsMinorUnits } = account;
    const balance = balances.get(accountId) ?? 0n;
    const line = lines.get(`${shard} ${currency}`) ?? emptyLine(shard, currency);
    lines.set(`${shard} ${currency}`, line);
    if (role === "account") {
      line.accounts += 1;
      line.creditsMinorUnits += creditsMinorUnits;
      line.debitsMinorUnits += debitsMinorUnits;
      line.accountsMinorUnits += balance;
    } else {
      line.counterparties += 1;
      line.counterpartiesMinorUnits += balance;
    }
    const due = creditsMinorUnits - debitsMinorUnits;
    if (balance !== due) {
      differences.push(
        `${role} ${name} (${accountId}) holds ${formatMoney(balance, currency)}; its rows come to ${formatMoney(due, currency)}: something else was posted to it`,
      );
    }
  }
  const sorted = [...lines.values()].sort((a, b) => a.shard - b.shard || (a.currency < b.currency ? -1 : 1));
  differences.push(...differencesOfLines(sorted), ...differencesFromFile(sorted, file, refusedLines));
  return { lines: sorted, differences, balances };
}

function emptyLine(shard: number, currency: string): TotalsLine {
  return {
    shard,
    currency,
    accounts: 0,
    counterparties: 0,
    creditsMinorUnits: 0n,
    debitsMinorUnits: 0n,
    accountsMinorUnits: 0n,
    counterpartiesMinorUnits: 0n,
  };
}

function differencesOfLines(lines: readonly TotalsLine[]): string[] {
  return lines.flatMap(({ shard, currency, accountsMinorUnits, counterpartiesMinorUnits }) => {
    const sum = accountsMinorUnits + counterpartiesMinorUnits;
    if (sum === 0n) return [];
    return [`shard ${shard}: accounts and counterparties come to ${formatMoney(sum, currency)}, not to zero`];
  });
}

/** What was posted against the rows of the file, per currency. */
function differencesFromFile(
  lines: readonly TotalsLine[],
  file: BankFile,
  refusedLines: ReadonlySet<number>,
): string[] {
  const differences: string[] = [];
  for (const { currency, creditsMinorUnits, debitsMinorUnits } of fileTotals(file, refusedLines)) {
    const posted = lines.filter((line) => line.currency === currency);
    const credits = posted.reduce((sum, line) => sum + line.creditsMinorUnits, 0n);
    const debits = posted.reduce((sum, line) => sum + line.debitsMinorUnits, 0n);
    for (const [what, inLedger, inFile] of [
      ["credits", credits, creditsMinorUnits],
      ["debits", debits, debitsMinorUnits],
    ] as const) {
      if (inLedger === inFile) continue;
      differences.push(
        `${what}: the ledger took ${formatMoney(inLedger, currency)}; the rows of the file come to ${formatMoney(inFile, currency)}`,
      );
    }
  }
  return differences;
}

export interface FileTotals {
  readonly currency: string;
  creditsMinorUnits: bigint;
  debitsMinorUnits: bigint;
}

/** Credits and debits of the file's good rows, less those that the ledger refused. */
export function fileTotals(file: BankFile, refusedLines: ReadonlySet<number>): FileTotals[] {
  const totals = new Map<string, FileTotals>();
  for (const { line, currency, direction, amountMinorUnits } of file.transactions) {
    if (refusedLines.has(line)) continue;
    const known = totals.get(currency) ?? { currency, creditsMinorUnits: 0n, debitsMinorUnits: 0n };
    totals.set(currency, known);
    if (direction === "credit") known.creditsMinorUnits += amountMinorUnits;
    else known.debitsMinorUnits += amountMinorUnits;
  }
  return [...totals.values()];
}
