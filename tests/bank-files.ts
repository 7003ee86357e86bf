import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "#cli/random.ts";

/** Bank files for tests: the real one beside the project when it is there, and made-up ones of the same form. */

export interface BankRow {
  readonly account: string;
  /** Above zero is a credit. */
  readonly signedMinorUnits: bigint;
  /** The bank's own balance after the row. */
  readonly publishedMinorUnits: bigint;
}

export const HEADER =
  "transaction_id,date,account_id,direction,kind,purpose,amount_minor_units,published_balance_minor_units,currency,counterparty_bank,counterparty_account";

const CZECH_FILE = join(import.meta.dirname, "../../shared/data/czech-bank-1993.csv");
/** What its README says. */
const CZECH_CREDITS = 12_044_223_740n;
const CZECH_DEBITS = 8_386_629_130n;

export interface BankExample {
  readonly text: string;
  readonly rows: readonly BankRow[];
  readonly credits: bigint;
  readonly debits: bigint;
}

/** The real file, else a made-up one. */
export function bankExample(): BankExample {
  if (!existsSync(CZECH_FILE)) return example(madeUpFile(11, 3_000, 120));
  return { ...example(readFileSync(CZECH_FILE, "utf8")), credits: CZECH_CREDITS, debits: CZECH_DEBITS };
}

function example(text: string): BankExample {
  const rows = readRows(text);
  const sum = (sign: bigint) =>
    rows.reduce((total, row) => (row.signedMinorUnits * sign > 0n ? total + row.signedMinorUnits * sign : total), 0n);
  return { text, rows, credits: sum(1n), debits: sum(-1n) };
}

function readRows(text: string): BankRow[] {
  const [header = "", ...lines] = text.trim().split("\n");
  const columns = header.split(",");
  return lines.map((line) => {
    const fields = line.split(",");
    const field = (name: string) => fields[columns.indexOf(name)] ?? "";
    const amount = BigInt(field("amount_minor_units"));
    return {
      account: field("account_id"),
      signedMinorUnits: field("direction") === "credit" ? amount : -amount,
      publishedMinorUnits: BigInt(field("published_balance_minor_units")),
    };
  });
}

const KINDS = [
  ["credit", "cash_deposit", "", ""],
  ["credit", "bank_transfer_in", "pension", "AB"],
  ["credit", "interest", "interest", ""],
  ["debit", "cash_withdrawal", "", ""],
  ["debit", "cash_withdrawal", "statement_fee", ""],
  ["debit", "bank_transfer_out", "household", "CD"],
] as const;

/** So many rows over so many accounts; the first accounts overdraw. The same seed makes the same file. */
export function madeUpFile(seed: number, rowCount: number, accountCount: number): string {
  const random = seededRandom(seed);
  const balances = new Map<string, bigint>();
  const lines = [HEADER];
  for (let row = 0; row < rowCount; row += 1) {
    const account = `A${row < accountCount ? row : random.between(0, accountCount - 1)}`;
    const balance = balances.get(account) ?? 0n;
    const amount = BigInt(random.between(1, 500_000));
    const mayOverdraw = account === "A0" || account === "A1";
    const choices = KINDS.filter(([direction]) => direction === "credit" || mayOverdraw || balance >= amount);
    const [direction, kind, purpose, bank] = row === 0 ? KINDS[3] : random.pick(choices);
    const after = direction === "credit" ? balance + amount : balance - amount;
    balances.set(account, after);
    const date = new Date(Date.UTC(2001, 0, 1 + Math.floor((row * 300) / rowCount))).toISOString().slice(0, 10);
    lines.push([row + 1, date, account, direction, kind, purpose, amount, after, "CZK", bank, ""].join(","));
  }
  return `${lines.join("\n")}\n`;
}
