import { plainArray } from "#lib/sql-arrays.ts";

/**
 * What of a posting has been taken back: `ledger.refunded_postings`, on the shard of the account that it credited.
 *
 *   PARTIAL -> EXHAUSTED    nothing is left
 *   EXHAUSTED -> NOTED      the transfer's own shard knows
 *
 * It only changes under the lock of the credited account, which every reversal debits.
 */
export interface RefundedPosting {
  /** Of the transfer that is taken back. */
  readonly transferUuid: string;
  readonly postingIndex: number;
  /** Of the credited account. */
  readonly bucket: number;
  readonly creditedMinorUnits: bigint;
  refundedMinorUnits: bigint;
  state: RefundState;
  /** What the batch has to do with its row. */
  row: "unchanged" | "changed";
}

export type RefundState = "PARTIAL" | "EXHAUSTED" | "NOTED";

/** Names a posting of a transfer within a batch. */
export function postingName(transferUuid: string, postingIndex: number): string {
  return `${transferUuid} ${postingIndex}`;
}

export const REFUND_COLUMNS = "transfer_id, posting_index, bucket, credited_minor_units, refunded_minor_units, state";

export type RefundRow = [
  transferUuid: string,
  postingIndex: number,
  bucket: number,
  credited: string,
  refunded: string,
  state: RefundState,
];

export function toRefundedPosting(row: RefundRow): RefundedPosting {
  const [transferUuid, postingIndex, bucket, credited, refunded, state] = row;
  return {
    transferUuid,
    postingIndex,
    bucket,
    creditedMinorUnits: BigInt(credited),
    refundedMinorUnits: BigInt(refunded),
    state,
    row: "unchanged",
  };
}

/** The parameters of `ledger.write_refunds`, in its order. */
export function refundColumns(refunds: readonly RefundedPosting[]): string[] {
  return [
    plainArray(refunds.map(({ transferUuid }) => transferUuid)),
    plainArray(refunds.map(({ postingIndex }) => postingIndex)),
    plainArray(refunds.map(({ bucket }) => bucket)),
    plainArray(refunds.map(({ creditedMinorUnits }) => creditedMinorUnits)),
    plainArray(refunds.map(({ refundedMinorUnits }) => refundedMinorUnits)),
    plainArray(refunds.map(({ state }) => state)),
  ];
}
