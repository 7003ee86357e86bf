import { hash } from "node:crypto";
import type { BankAccount } from "#cli/bank-file.ts";
import { type BankTransaction, effectiveTimeMs, isBankTransfer } from "#cli/bank-transaction.ts";
import { FIRST_PINNED_BUCKET, uuidToId } from "#lib/ids.ts";
import { Account_Kind, CreateAccountRequest, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/**
 * A book: the accounts of one bank's file in the ledger, under a name. Every name and id here follows from the book and the
 * file alone, so that a repeated import meets what is there already.
 *
 * The other side of each transaction is a system account of the book (`system:BOOK_cash`), not the system's own
 * (`system:cash`): an account's effective times may not go back, and the live one has newer entries than any history.
 */

/** System accounts have names of at most 56 characters; the rest is for what follows the book's name. */
export const BOOK_PATTERN = /^[a-z][a-z0-9_]{0,23}$/;
export const BOOK_RULE = "1 to 24 characters of a-z, 0-9 and _, a letter first";

/** Owners exist for the ledger's placing only; the time in their ids means nothing. */
const OWNER_TIME_MS = Date.UTC(2026, 0, 1);

/** The owner of an account: a TypeID whose bucket, and so whose shard, is drawn by a hash of book and account. */
export function ownerIdOf(book: string, account: string): string {
  const digest = hash("sha256", `${book}/${account}`, "hex");
  const bucket = Number.parseInt(digest.slice(0, 8), 16) % FIRST_PINNED_BUCKET;
  const time = OWNER_TIME_MS.toString(16).padStart(12, "0");
  const uuid = [
    time.slice(0, 8),
    time.slice(8),
    `7${bucket.toString(16).padStart(3, "0")}`,
    // The variant of a UUID, then bits of the hash that the bucket did not use.
    `8${digest.slice(8, 11)}`,
    digest.slice(11, 23),
  ];
  return uuidToId("user", uuid.join("-"));
}

/**
 * Opens an account, without a floor when its bank lets it overdraw. Each has a key of its own, made of its name: a file that has grown since, or was mended, finds the
 * accounts that it opened before (one key for a batch would be refused as soon as the list differs).
 */
export function accountRequest(book: string, account: BankAccount, unbounded: boolean): CreateAccountRequest {
  return CreateAccountRequest.fromPartial({
    ownerId: ownerIdOf(book, account.name),
    currency: account.currency,
    kind: Account_Kind.WALLET,
    ...(unbounded ? { floor: { $case: "unbounded", value: true } } : {}),
    reference: `${book}/${account.name}`,
    idempotencyKey: `import/${book}/account/${account.name}`,
  });
}

/** The transfer of a row, between its account and the counterparty on the account's shard. */
export function transferRequestOf(
  book: string,
  transaction: BankTransaction,
  accountId: string,
): CreateTransferRequest {
  const { transactionId, direction, kind, purpose, amountMinorUnits, currency, counterpartyBank, date } = transaction;
  const counterparty = `system:${book}_${counterpartyOf(transaction)}`;
  const [debitAccountId, creditAccountId] =
    direction === "credit" ? [counterparty, accountId] : [accountId, counterparty];
  const memo = [...(purpose === "" ? [] : [kind]), ...(counterpartyBank === "" ? [] : [`bank ${counterpartyBank}`])];
  return CreateTransferRequest.fromPartial({
    postings: [{ debitAccountId, creditAccountId, amountMinorUnits, currency }],
    type: purpose === "" ? kind : purpose,
    memo: memo.join(", "),
    metadata: { transaction_id: transactionId },
    effectiveTime: new Date(effectiveTimeMs(date)),
    idempotencyKey: `import/${book}/${transactionId}`,
  });
}

/** Who is on the other side: the bank's own income and expense, another bank, cash, or else an account per kind. */
export function counterpartyOf({ kind, purpose, counterpartyBank }: BankTransaction): string {
  if (purpose === "interest") return "interest";
  if (purpose === "statement_fee") return "fees";
  if (purpose === "penalty_interest") return "penalties";
  if (isBankTransfer(kind)) return `bank_${counterpartyBank.toLowerCase()}`;
  if (kind.startsWith("cash_")) return "cash";
  return kind;
}
