import type { IdPrefix } from "#lib/ids.ts";
import type { Refusal } from "#lib/refusal.ts";
import type { HoldSnapshot } from "#services/ledger/hold.ts";
import type { LockedQuote, QuoteClaim } from "#services/ledger/quote.ts";
import type { DatedRate } from "#services/ledger/rate.ts";
import type { LockedLeg, RemoteLeg } from "#services/ledger/remote-leg.ts";
import type { PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";

/**
 * What a shard can be told to do. Commands of all kinds share one queue and one transaction per batch (group-commit.ts,
 * write-batch.ts): each names the rows it needs locked (lock-batch.ts) and is decided by a pure function
 * (evaluate-command.ts).
 */
export type LedgerCommand =
  | TransferCommand
  | PrepareLegsCommand
  | PostLegsCommand
  | ReleaseLegsCommand
  | AbortTransferCommand
  | CloseDecisionCommand
  | SetAccountStatusCommand
  | SetRatesCommand
  | CreateQuoteCommand
  | CreateHoldCommand
  | VoidHoldCommand
  | ExpireHoldCommand
  | NoteReversedCommand
  | CloseRefundsCommand
  | GroupCommand;

/** What is decided by itself. */
export type SingleCommand = Exclude<LedgerCommand, GroupCommand>;

/** An account by its id, and by the UUID that Postgres knows it by. */
export interface AccountName {
  readonly id: string;
  readonly uuid: string;
}

/** Whose command it is, and under which idempotency key. */
export interface CommandKey {
  /** Of the command: its first debit account, the hold, the account or the owner. */
  readonly bucket: number;
  readonly caller: string;
  readonly method: string;
  readonly key: string;
  /** SHA-256 of the request's canonical form. */
  readonly fingerprint: Buffer;
  /** All of it but the fingerprint: names the key within a shard. */
  readonly text: string;
  /**
   * What the command makes; an id of its own when it makes nothing. Chosen before the first try, so that a repeated write
   * knows its own key.
   */
  readonly resourceUuid: string;
  /** Undefined when it makes nothing. */
  readonly makes: IdPrefix | undefined;
}

/** What every command has. */
export interface CommandBase {
  /** Undefined for steps of our own protocols: repeating those is harmless by what they do. */
  readonly key: CommandKey | undefined;
  /** What a batch may hold once only: its key, or else a name for what it does. */
  readonly name: string;
  /** Postings that it enters, at least 1: how much of a batch it takes. */
  readonly weight: number;
  /** Accounts to be locked. */
  readonly accounts: readonly AccountName[];
}

/** On a credited shard, before the payer's shard decides: keeps room for what it will post. */
export interface PrepareLegsCommand extends CommandBase {
  readonly kind: "prepare_legs";
  readonly transferId: string;
  /** None when only the quote is here. */
  readonly legs: readonly RemoteLeg[];
  /** The transfer's quote, to be reserved, when it is on this shard. */
  readonly quote: QuoteClaim | undefined;
  /** This shard's transit account of each currency. */
  readonly transitOf: ReadonlyMap<string, AccountName>;
}

/** On a credited shard, after the payer's shard has committed. Can not be refused. */
export interface PostLegsCommand extends CommandBase {
  readonly kind: "post_legs";
  readonly transferId: string;
  /** Of the reserved quote, when it is on this shard. */
  readonly quoteId: string | undefined;
  /** As above. */
  readonly transitOf: ReadonlyMap<string, AccountName>;
}

/** On a credited shard, when the payer's shard will never commit. */
export interface ReleaseLegsCommand extends CommandBase {
  readonly kind: "release_legs";
  readonly transferId: string;
  /** As above. */
  readonly quoteId: string | undefined;
  readonly transitOf: ReadonlyMap<string, AccountName>;
}

/** On the payer's shard: asks what was decided, and decides against it when nothing was. */
export interface AbortTransferCommand extends CommandBase {
  readonly kind: "abort_transfer";
  readonly transferId: string;
}

/** On the payer's shard: every leg is posted. */
export interface CloseDecisionCommand extends CommandBase {
  readonly kind: "close_decision";
  readonly transferId: string;
}

/** Freezes, unfreezes or closes an account: the states are at the top of evaluate-account-status.ts. Makes nothing. */
export interface SetAccountStatusCommand extends CommandBase {
  readonly kind: "set_account_status";
  readonly key: CommandKey;
  readonly account: AccountName;
  readonly change: AccountChange;
  /** Operational text for the event; may be empty. */
  readonly reason: string;
}

export type AccountChange = "freeze" | "unfreeze" | "close";

/** On every shard: market rates, all of a call. */
export interface SetRatesCommand extends CommandBase {
  readonly kind: "set_rates";
  readonly key: CommandKey;
  readonly rates: readonly DatedRate[];
}

/** Makes a quote at the rate that counts on the shard. */
export interface CreateQuoteCommand extends CommandBase {
  readonly kind: "create_quote";
  readonly key: CommandKey;
  readonly quoteId: string;
  readonly sellCurrency: string;
  readonly buyCurrency: string;
  /** Which of the two amounts is given; the other follows from the rate. */
  readonly fixed: "sell" | "buy";
  readonly amountMinorUnits: bigint;
  /** Who alone may pay; undefined: anybody. */
  readonly debitAccountId: string | undefined;
}

/** On the payer's shard. */
export interface CreateHoldCommand extends CommandBase {
  readonly kind: "create_hold";
  readonly holdId: string;
  readonly holdUuid: string;
  readonly bucket: number;
  readonly debit: AccountName;
  readonly credit: AccountName;
  /** The credit account is on this shard, and so among the locked ones. */
  readonly creditIsHere: boolean;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  /** Undefined: a default from now. */
  readonly expireTimeMs: number | undefined;
  /** The credit account's shard has refused it: only the key counts, which may have its answer already. */
  readonly refusedElsewhere: { readonly refusal: Refusal; readonly remembered: boolean } | undefined;
}

export interface VoidHoldCommand extends CommandBase {
  readonly kind: "void_hold";
  readonly holdId: string;
}

/** By a worker, when a hold's time may be over. Can not be refused. */
export interface ExpireHoldCommand extends CommandBase {
  readonly kind: "expire_hold";
  readonly holdId: string;
}

/** On the shard of a transfer: these of its postings are wholly taken back. */
export interface NoteReversedCommand extends CommandBase {
  readonly kind: "note_reversed";
  readonly transferId: string;
  readonly postingIndexes: readonly number[];
}

/** On the shard of the accounts that the postings credited: the transfer's own shard knows. */
export interface CloseRefundsCommand extends CommandBase {
  readonly kind: "close_refunds";
  readonly transferId: string;
  readonly postingIndexes: readonly number[];
}

/** Transfers of which all are made, or none: evaluate-group.ts. */
export interface GroupCommand extends CommandBase {
  readonly kind: "group";
  /** The members have keys. */
  readonly key: undefined;
  /** All of one bucket, in their order. */
  readonly members: readonly TransferCommand[];
}

/** What a command that was carried out has to say. */
export type CommandAnswer =
  | { readonly kind: "transfer"; readonly transfer: PostedTransfer }
  /** To be read: the resource of the command's key, in a replay of a command that makes no transfer; or what it changed. */
  | { readonly kind: "resource"; readonly resourceUuid: string }
  | { readonly kind: "quote"; readonly quote: LockedQuote }
  | { readonly kind: "hold"; readonly hold: HoldSnapshot }
  | { readonly kind: "legs"; readonly legs: readonly LockedLeg[] }
  | { readonly kind: "decision"; readonly committed: boolean }
  /** One outcome per member, in order; all are done or all refused. */
  | { readonly kind: "group"; readonly members: readonly CommandOutcome[] }
  | { readonly kind: "none" };

/** What became of a command. */
export type CommandOutcome =
  | {
      readonly kind: "done";
      readonly answer: CommandAnswer;
      /** Undefined when it made no event. */
      readonly eventNumber: bigint | undefined;
      readonly replayed: boolean;
    }
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly replayed: boolean }
  /** It was being written when its time was over. */
  | { readonly kind: "unknown" }
  /** Postgres did not take it: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };
