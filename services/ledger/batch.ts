import type { Refusal } from "#lib/refusal.ts";
import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { CommandAnswer } from "#services/ledger/command.ts";
import type { LockedHold } from "#services/ledger/hold.ts";
import type { LockedQuote } from "#services/ledger/quote.ts";
import type { DatedRate, NewRate } from "#services/ledger/rate.ts";
import type { RefundedPosting } from "#services/ledger/refunded-posting.ts";
import type { LockedLeg } from "#services/ledger/remote-leg.ts";
import type { OriginalTransfer } from "#services/ledger/reversal.ts";
import type { EntryLine, LockedAccount, PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";

/**
 * A batch between its two round trips: the rows that are locked, as the commands change them one after the other, and what
 * is to be written. Rows that a command asks for and that do not exist are missing in the maps.
 */
export interface Batch {
  /** The clock of the shard's Postgres after the locks. */
  readonly nowMs: number;
  readonly accounts: ReadonlyMap<string, LockedAccount>;
  /** By transfer id: of the payer's shard. */
  readonly decisions: Map<string, Decision>;
  /** By hold id. */
  readonly holds: Map<string, LockedHold>;
  /** By transfer id: legs that are on this shard. */
  readonly legs: Map<string, LockedLeg[]>;
  /** By their ids. */
  readonly quotes: Map<string, LockedQuote>;
  /** Of the pairs that the batch quotes: those that counted when it began. */
  readonly rates: ReadonlyMap<string, DatedRate>;
  readonly newRates: NewRate[];
  /** By `postingName`: what was taken back of postings to accounts on this shard. */
  readonly refunds: Map<string, RefundedPosting>;
  /** By transfer id: transfers of this shard of which other shards have taken something back. */
  readonly originals: Map<string, OriginalTransfer>;
  readonly transfers: WrittenTransfer[];
  readonly entries: WrittenEntry[];
  readonly events: WrittenEvent[];
}

/**
 * What became of a transfer with legs on other shards: `ledger.decisions`.
 *
 *   COMMITTED -> CLOSED    every leg is posted
 *   ABORTED                nothing has happened, and nothing will
 */
export interface Decision {
  readonly transferUuid: string;
  readonly bucket: number;
  state: "COMMITTED" | "CLOSED" | "ABORTED";
  /** What the batch has to do with its row. */
  row: "unchanged" | "new" | "changed";
}

export interface WrittenTransfer {
  readonly command: TransferCommand;
  readonly transfer: PostedTransfer;
  readonly event: BatchEvent;
}

export interface WrittenEntry {
  readonly transferUuid: string;
  readonly entry: EntryLine;
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
}

export interface WrittenEvent {
  readonly bucket: number;
  /** The id of what changed, such as `xfer_…`. */
  readonly aggregateId: string;
  readonly aggregateVersion: bigint;
  /** The message of events.proto by that name. */
  readonly type: string;
  /** In Protobuf's JSON form; written at once, since later commands of the batch change the accounts. */
  readonly payload: string;
}

/** What a command came to. A refused one has changed nothing. */
export type Evaluation =
  | {
      readonly kind: "done";
      readonly answer: CommandAnswer;
      /** Which event of the batch is the command's, or its number when it was made before. */
      readonly event: BatchEvent | bigint | undefined;
    }
  /** `remembered`: a business refusal, replayed under the key. Otherwise the request itself was wrong, or came too early. */
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly remembered: boolean };

/** Adds an event to the batch, and says which one it is. */
export function addEvent(batch: Batch, event: WrittenEvent): BatchEvent {
  batch.events.push(event);
  return { ordinal: batch.events.length - 1 };
}
