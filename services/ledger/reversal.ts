import type { PostedTransfer } from "#services/ledger/transfer.ts";

/** What a transfer takes back of an earlier one, whose credits were made on this shard. */
export interface Reversal {
  readonly originalId: string;
  readonly originalUuid: string;
  /** One for each posting of the transfer, in their order. */
  readonly parts: readonly ReversalPart[];
  /** All that is left, whatever it is when the accounts are locked; otherwise what the postings say. */
  readonly everythingLeft: boolean;
  /** The credits came from another shard: they may be on their way yet. */
  readonly cameFromElsewhere: boolean;
}

export interface ReversalPart {
  /** Of the earlier transfer, from 0. */
  readonly postingIndex: number;
  readonly creditedMinorUnits: bigint;
}

/**
 * A transfer on its own shard, under its lock.
 *
 *   POSTED -> REVERSED    every posting is wholly taken back
 */
export interface OriginalTransfer {
  transfer: PostedTransfer;
  readonly transferUuid: string;
  /** Of the event that posted it. */
  readonly eventNumber: bigint;
  /** Those that are wholly taken back, ascending. */
  reversedPostings: readonly number[];
  /** What the batch has to do with its row. */
  row: "unchanged" | "changed";
}
