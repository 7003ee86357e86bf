import type { Refusal } from "#lib/refusal.ts";
import type { AccountName, CommandBase, CommandKey } from "#services/ledger/command.ts";
import type { HoldCapture } from "#services/ledger/hold.ts";
import type { QuoteClaim } from "#services/ledger/quote.ts";
import type { Reversal } from "#services/ledger/reversal.ts";

/**
 * What the ledger knows of a transfer between parsing and answering. Ids are TypeIDs (`acct_…`), as everywhere outside of
 * Postgres; where a statement needs the UUID it stands beside. Times are ms since 1970.
 */

/** Of the account, one per shard and currency, through which money goes to another shard. Nobody else may use it. */
export const TRANSIT_REFERENCE = "system:transit";
/** What the reference of every system account begins with. */
export const SYSTEM_PREFIX = "system:";

/** A posting as it was asked for, every id resolved. */
export interface PostingLine {
  readonly debitAccountId: string;
  readonly creditAccountId: string;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

/** A posting as it is entered on one shard: a side that is on another shard is the transit account's. */
export interface LocalPosting {
  /** Among the transfer's postings, from 0. */
  readonly index: number;
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  /** The other side, as the entry of the debited account names it: the true one, wherever it is. */
  readonly debitCounterparty: AccountName;
  readonly creditCounterparty: AccountName;
}

/** What a transfer belongs to. */
export interface TransferLinks {
  readonly holdId?: string;
  readonly reversesTransferId?: string;
  /** Which posting of that transfer each posting takes back, in whole or in part. */
  readonly reversesPostingIndexes?: readonly number[];
  readonly quoteId?: string;
}

/** A transfer on the payer's shard: the whole of it, or its decision when there are legs on other shards. */
export interface TransferCommand extends CommandBase {
  readonly kind: "transfer";
  readonly key: CommandKey;
  /** Chosen before the first try, so that a repeated write meets its own key again. */
  readonly transferId: string;
  readonly transferUuid: string;
  readonly bucket: number;
  readonly postings: readonly PostingLine[];
  /** Those with a side on this shard. */
  readonly local: readonly LocalPosting[];
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Undefined: when it is posted. */
  readonly effectiveTimeMs: number | undefined;
  readonly links: TransferLinks | undefined;
  /** Undefined unless it is one. */
  readonly capture: HoldCapture | undefined;
  /** Of a conversion; `isHere`: on this shard, to be used in this commit. Otherwise its shard takes part like that of a leg. */
  readonly quote: { readonly claim: QuoteClaim; readonly isHere: boolean } | undefined;
  /** Other shards take part: a decision is recorded. */
  readonly crossShard: boolean;
  /** Undefined: it takes nothing back. */
  readonly reversal: Reversal | undefined;
  /** It is refused already, by another shard or by what can not change: only the key counts, which may have its answer. */
  readonly refusedElsewhere: { readonly refusal: Refusal; readonly remembered: boolean } | undefined;
}

/** An account as it is under its lock, and as a batch changes it before writing. */
export interface LockedAccount extends AccountName {
  readonly ownerId: string;
  readonly currency: string;
  readonly kind: string;
  status: string;
  postedMinorUnits: bigint;
  heldMinorUnits: bigint;
  /** Undefined: unbounded. */
  readonly floorMinorUnits: bigint | undefined;
  version: bigint;
  entrySequence: bigint;
  lastPostTimeMs: number;
  lastEffectiveTimeMs: number;
  readonly reference: string;
  /** Open prepared legs of transfers from other shards. */
  preparedDebitMinorUnits: bigint;
  preparedCreditMinorUnits: bigint;
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
  /** Of the accounts on the payer's shard. */
  readonly balances: readonly BalanceAfter[];
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
  readonly links: TransferLinks | undefined;
}
