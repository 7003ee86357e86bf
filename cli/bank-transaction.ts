import { isActiveCurrency } from "#lib/currencies.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";

/** One row of a bank's file, checked. */
export interface BankTransaction {
  /** In the file; the header is line 1. */
  readonly line: number;
  readonly transactionId: string;
  /** YYYY-MM-DD */
  readonly date: string;
  readonly account: string;
  /** Seen from the account: a credit adds. */
  readonly direction: "credit" | "debit";
  readonly kind: string;
  /** Empty when the bank gave none. */
  readonly purpose: string;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  /** Empty when the bank gave none. */
  readonly counterpartyBank: string;
}

export const REQUIRED_COLUMNS = [
  "transaction_id",
  "date",
  "account_id",
  "direction",
  "kind",
  "amount_minor_units",
  "currency",
] as const;

/**
 * Columns that may be absent. Two are accepted and not sent: `published_balance_minor_units` is the bank's own figure, and
 * `counterparty_account` is personal data, which has no place in events that nobody can erase.
 */
export const OPTIONAL_COLUMNS = [
  "purpose",
  "counterparty_bank",
  "counterparty_account",
  "published_balance_minor_units",
] as const;

export type Column = (typeof REQUIRED_COLUMNS)[number] | (typeof OPTIONAL_COLUMNS)[number];

/** With the book's name it makes an idempotency key of at most 128 characters. */
const TRANSACTION_ID_PATTERN = /^[!-~]{1,80}$/;
/** With the book's name it makes a reference of at most 64 characters. */
const ACCOUNT_PATTERN = /^[A-Za-z0-9._-]{1,39}$/;
/** Kinds and banks end up in the names of system accounts: at most 56 characters with the book's name. */
const KIND_PATTERN = /^[a-z][a-z0-9_]{0,30}$/;
const BANK_PATTERN = /^[A-Za-z0-9]{1,20}$/;
const PURPOSE_PATTERN = /^[a-z0-9_]{1,40}$/;
const AMOUNT_PATTERN = /^[0-9]{1,19}$/;
const DATE_PATTERN = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/;
/** A stray value must not fill the screen. */
const MAX_QUOTED_CHARACTERS = 40;

export type ParsedRow =
  | { readonly kind: "good"; readonly transaction: BankTransaction }
  | { readonly kind: "bad"; readonly reason: string };

/** Checks one row by itself. `nowMs` decides what lies in the future, which the ledger refuses. */
export function parseTransaction(textOf: (column: Column) => string, line: number, nowMs: number): ParsedRow {
  const reasons: string[] = [];
  const require = (fine: boolean, column: Column, what: string) => {
    if (!fine) reasons.push(`${column} is ${quote(textOf(column))}: ${what}`);
  };
  const transactionId = textOf("transaction_id");
  if (transactionId === "") reasons.push("transaction_id is missing");
  else
    require(TRANSACTION_ID_PATTERN.test(
      transactionId,
    ), "transaction_id", "must be 1 to 80 printable ASCII characters without spaces");
  const date = textOf("date");
  require(isDate(date), "date", "must be a day, written YYYY-MM-DD");
  require(!isDate(date) || effectiveTimeMs(date) <= nowMs, "date", "lies in the future");
  const account = textOf("account_id");
  require(ACCOUNT_PATTERN.test(account), "account_id", "must be 1 to 39 characters of A-Z, a-z, 0-9, dot, _ and -");
  const direction = textOf("direction");
  require(direction === "credit" || direction === "debit", "direction", "must be credit or debit");
  const kind = textOf("kind");
  require(KIND_PATTERN.test(kind), "kind", "must be 1 to 31 characters of a-z, 0-9 and _");
  const purpose = textOf("purpose");
  require(purpose === "" ||
    PURPOSE_PATTERN.test(purpose), "purpose", "must be at most 40 characters of a-z, 0-9 and _");
  const amount = textOf("amount_minor_units");
  require(isAmount(amount), "amount_minor_units", "must be a whole number above zero, within 64 bits");
  const currency = textOf("currency");
  require(isActiveCurrency(currency), "currency", "is no ISO 4217 currency, or a withdrawn one");
  const counterpartyBank = textOf("counterparty_bank");
  require(counterpartyBank === "" ||
    BANK_PATTERN.test(counterpartyBank), "counterparty_bank", "must be at most 20 letters and digits");
  if (isBankTransfer(kind) && counterpartyBank === "")
    reasons.push("counterparty_bank is missing: a bank transfer names the other bank");
  if (reasons.length > 0) return { kind: "bad", reason: reasons.join("; ") };

  const transaction: BankTransaction = {
    line,
    transactionId,
    date,
    account,
    direction: direction as BankTransaction["direction"],
    kind,
    purpose,
    amountMinorUnits: BigInt(amount),
    currency,
    counterpartyBank,
  };
  return { kind: "good", transaction };
}

/** A transfer from or to another bank, by the kind of the row. */
export function isBankTransfer(kind: string): boolean {
  return kind.startsWith("bank_transfer");
}

/** Midnight UTC of a date, in ms since 1970: the bank says the day, not the hour. */
export function effectiveTimeMs(date: string): number {
  return Date.parse(`${date}T00:00:00Z`);
}

/** The amount with the sign that the account sees. */
export function signedMinorUnits({ direction, amountMinorUnits }: BankTransaction): bigint {
  return direction === "credit" ? amountMinorUnits : -amountMinorUnits;
}

/** Whether two rows say the same, wherever they stand. */
export function sameTransaction(a: BankTransaction, b: BankTransaction): boolean {
  const body = ({ line: _, amountMinorUnits, ...rest }: BankTransaction) =>
    JSON.stringify([amountMinorUnits.toString(), rest]);
  return body(a) === body(b);
}

function isDate(text: string): boolean {
  if (!DATE_PATTERN.test(text)) return false;
  const time = effectiveTimeMs(text);
  // The 30th of February is parsed as a day of March.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

function isAmount(text: string): boolean {
  if (!AMOUNT_PATTERN.test(text)) return false;
  const amount = BigInt(text);
  return amount > 0n && amount <= MAX_MINOR_UNITS;
}

/** A value as it is shown to people: short, and without control characters. */
export function quote(text: string): string {
  const short = text.length > MAX_QUOTED_CHARACTERS ? `${text.slice(0, MAX_QUOTED_CHARACTERS)}…` : text;
  return JSON.stringify(short);
}
