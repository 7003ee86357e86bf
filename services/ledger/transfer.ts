import type { Refusal } from "#lib/refusal.ts";

/**
 * What the ledger knows of a transfer between parsing and answering. Ids are TypeIDs (`acct_…`), as everywhere outside of
 * Postgres; where a statement needs the UUID it stands beside. Times are ms since 1970.
 */

export interface AccountName {
  readonly id: string;
  readonly uuid: string;
}

export interface CommandKey {
  /** Of the command: its first debit account, or the owner. */
  readonly bucket: number;
  readonly caller: string;
  readonly method: string;
  readonly key: string;
  /** SHA-256 of the request's canonical form. */
  readonly fingerprint: Buffer;
}

export interface PostingCommand {
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

/** A posting as it was written. */
export interface PostingLine {
  readonly debitAccountId: string;
  readonly creditAccountId: string;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

export interface TransferCommand {
  readonly key: CommandKey;
  /** Chosen before the first try, so that a repeated write meets its own key again. */
  readonly transferId: string;
  readonly transferUuid: string;
  readonly bucket: number;
  readonly postings: readonly PostingCommand[];
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Undefined: when it is posted. */
  readonly effectiveTimeMs: number | undefined;
}

/** An account as it is under its lock, and as a batch changes it before writing. */
export interface LockedAccount extends AccountName {
  readonly ownerId: string;
  readonly currency: string;
  readonly kind: string;
  readonly status: string;
  postedMinorUnits: bigint;
  readonly heldMinorUnits: bigint;
  /** Undefined: unbounded. */
  readonly floorMinorUnits: bigint | undefined;
  version: bigint;
  entrySequence: bigint;
  lastPostTimeMs: number;
  lastEffectiveTimeMs: number;
  readonly reference: string;
  /** Whether this batch has changed it. */
  touched: boolean;
}

export interface EntryLine {
  readonly account: AccountName;
  readonly sequence: bigint;
  readonly postingIndex: number;
  /** Signed. */
  readonly amountMinorUnits: bigint;
  readonly balanceAfterMinorUnits: bigint;
  readonly currency: string;
  readonly counterparty: AccountName;
}

/** Balances of one account after a transfer. */
export interface BalanceAfter {
  readonly accountId: string;
  readonly postedMinorUnits: bigint;
  readonly heldMinorUnits: bigint;
  readonly version: bigint;
}

/** A transfer as it was written. */
export interface PostedTransfer {
  readonly transferId: string;
  readonly state: string;
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly postings: readonly PostingLine[];
  readonly balances: readonly BalanceAfter[];
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
}

/** What became of a transfer command. */
export type TransferOutcome =
  | {
      readonly kind: "posted";
      readonly transfer: PostedTransfer;
      readonly eventNumber: bigint;
      readonly replayed: boolean;
    }
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly replayed: boolean }
  /** It was being written when its time was over. */
  | { readonly kind: "unknown"; readonly command: TransferCommand }
  /** Postgres did not take it: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };
