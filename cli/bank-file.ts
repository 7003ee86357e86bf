import { readFileSync, statSync } from "node:fs";
import { basename, extname } from "node:path";
import { parse } from "csv-parse/sync";
import {
  type BankTransaction,
  OPTIONAL_COLUMNS,
  parseTransaction,
  quote,
  REQUIRED_COLUMNS,
  sameTransaction,
  signedMinorUnits,
} from "#cli/bank-transaction.ts";
import { Problem } from "#infra/local/problem.ts";

/** A row that cannot be posted, and why. */
export interface BadRow {
  readonly line: number;
  readonly reason: string;
}

/** An account as the good rows tell it. */
export interface BankAccount {
  readonly name: string;
  readonly currency: string;
  readonly firstLine: number;
  rows: number;
  /** Sum of its rows. */
  balanceMinorUnits: bigint;
  /** The lowest that the balance ever is. */
  lowestMinorUnits: bigint;
}

export interface BankFile {
  /** Good rows in posting order: by date, and in the file's order within a day. */
  readonly transactions: readonly BankTransaction[];
  readonly accounts: readonly BankAccount[];
  /** In the order of their lines. */
  readonly badRows: readonly BadRow[];
  /** Rows that say again, word for word, what an earlier row said. */
  readonly repeatedRows: number;
  /** Of the file, without the header and blank lines. */
  readonly rows: number;
}

/** The file is read as a whole: its rows are checked against each other before the first is posted. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;

/** Reads and checks a bank's file. Throws a Problem when it is not such a file at all. */
export function readBankFile(path: string, nowMs: number): BankFile {
  return parseBankFile(readText(path), nowMs, basename(path));
}

function readText(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_FILE_BYTES) {
      throw new Problem(`${path} has ${size} bytes; ${MAX_FILE_BYTES} are possible. Mend it: split it by date.`);
    }
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Problem) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Problem(`There is no file ${path}.`);
    throw new Problem(code === "EISDIR" ? `${path} is a folder.` : `${path} cannot be read: ${message}.`);
  }
}

/** The same for text. `name` is for messages. */
export function parseBankFile(text: string, nowMs: number, name: string): BankFile {
  // A row is a line: a stray quote then spoils one row, not all that follow.
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const [header = ""] = lines;
  if (lines.every((line) => line.trim() === "")) throw new Problem(`${name} is empty.`);
  const columns = parseHeader(header, name);
  const check = new RowCheck();
  let rows = 0;
  for (const [index, content] of lines.entries()) {
    if (index === 0 || content.trim() === "") continue;
    rows += 1;
    const line = index + 1;
    const fields = splitLine(content);
    if (typeof fields === "string") check.bad(line, fields);
    else if (fields.length !== columns.size) check.bad(line, `has ${fields.length} columns, not ${columns.size}`);
    else {
      const parsed = parseTransaction((column) => fields[columns.get(column) ?? -1] ?? "", line, nowMs);
      if (parsed.kind === "bad") check.bad(line, parsed.reason);
      else check.good(parsed.transaction);
    }
  }
  if (rows === 0) throw new Problem(`${name} has a header and no rows.`);
  return { ...check.result(), rows };
}

/** Where each column stands. */
function parseHeader(header: string, name: string): Map<string, number> {
  const fields = splitLine(header);
  const names = typeof fields === "string" ? [header] : fields.map((field) => field.trim());
  const known: readonly string[] = [...REQUIRED_COLUMNS, ...OPTIONAL_COLUMNS];
  const missing = REQUIRED_COLUMNS.filter((column) => !names.includes(column));
  const strange = names.filter((column, index) => !known.includes(column) || names.indexOf(column) !== index);
  if (missing.length === 0 && strange.length === 0) return new Map(names.map((column, index) => [column, index]));
  const faults = [
    ...(missing.length === 0 ? [] : [`lacks ${missing.join(", ")}`]),
    ...(strange.length === 0 ? [] : [`has ${strange.map(quote).join(", ")} which is unknown or there twice`]),
  ];
  throw new Problem(`The first line of ${name} ${faults.join(" and ")}. Its columns must be ${known.join(",")}.`);
}

/** The fields of a line, or what is wrong with its quotes. */
function splitLine(line: string): string[] | string {
  if (!line.includes('"')) return line.split(",");
  try {
    return (parse(line, { relax_column_count: true }) as string[][])[0] ?? [];
  } catch (error) {
    return `is no CSV: ${(error as Error).message}`;
  }
}

/** Checks the rows against each other, in the order of the file, and adds them up per account. */
class RowCheck {
  readonly #good: BankTransaction[] = [];
  readonly #badRows: BadRow[] = [];
  readonly #byId = new Map<string, BankTransaction>();
  readonly #latest = new Map<string, BankTransaction>();
  #repeatedRows = 0;

  bad(line: number, reason: string): void {
    this.#badRows.push({ line, reason });
  }

  good(transaction: BankTransaction): void {
    const { line, transactionId, account, date, currency } = transaction;
    const twin = this.#byId.get(transactionId);
    if (twin !== undefined) {
      if (sameTransaction(twin, transaction)) this.#repeatedRows += 1;
      else this.bad(line, `transaction_id ${transactionId} stands in line ${twin.line} already, with another content`);
      return;
    }
    const latest = this.#latest.get(account);
    if (latest !== undefined && latest.currency !== currency) {
      this.bad(
        line,
        `currency is ${currency}, but account ${account} is in ${latest.currency}: see line ${latest.line}`,
      );
      return;
    }
    if (latest !== undefined && date < latest.date) {
      this.bad(line, `date is ${date}, before the account's previous row: ${latest.date} in line ${latest.line}`);
      return;
    }
    this.#byId.set(transactionId, transaction);
    this.#latest.set(account, transaction);
    this.#good.push(transaction);
  }

  result(): Omit<BankFile, "rows"> {
    // Counterparties are shared between accounts, and their days may not go back either; sorting by day keeps each
    // account's own order, as its days do not go back.
    const transactions = this.#good.sort((a, b) => (a.date === b.date ? a.line - b.line : a.date < b.date ? -1 : 1));
    return {
      transactions,
      accounts: addUp(transactions),
      badRows: this.#badRows,
      repeatedRows: this.#repeatedRows,
    };
  }
}

function addUp(transactions: readonly BankTransaction[]): BankAccount[] {
  const accounts = new Map<string, BankAccount>();
  for (const transaction of transactions) {
    const { account: name, currency, line } = transaction;
    let account = accounts.get(name);
    if (account === undefined) {
      account = { name, currency, firstLine: line, rows: 0, balanceMinorUnits: 0n, lowestMinorUnits: 0n };
      accounts.set(name, account);
    }
    account.rows += 1;
    account.balanceMinorUnits += signedMinorUnits(transaction);
    if (account.balanceMinorUnits < account.lowestMinorUnits) account.lowestMinorUnits = account.balanceMinorUnits;
  }
  return [...accounts.values()];
}

/** The name that a file gives to its book: `Czech-Bank 1993.csv` is `czech_bank_1993`. */
export function bookNameOf(path: string): string {
  return basename(path, extname(path))
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
}
