import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { AccountName } from "#services/ledger/command.ts";
import type { BalanceAfter } from "#services/ledger/transfer.ts";

/**
 * A posting's part on a shard that is not the payer's: `ledger.remote_legs`. The side that is not here is the transit
 * account's, so that every shard balances by itself.
 *
 *   PREPARED -> POSTED      the payer's shard has committed
 *   PREPARED -> RELEASED    it has not, and never will
 */
export interface RemoteLeg {
  readonly transferId: string;
  readonly transferUuid: string;
  readonly postingIndex: number;
  /** Of the credit account if it is here, else of the debit account. */
  readonly bucket: number;
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly debitIsHere: boolean;
  readonly creditIsHere: boolean;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  readonly type: string;
  readonly memo: string;
  /** Undefined: when it is posted. */
  readonly effectiveTimeMs: number | undefined;
}

export type LegState = "PREPARED" | "POSTED" | "RELEASED";

/** A leg as it is under its lock, and as a batch changes it before writing. */
export interface LockedLeg extends RemoteLeg {
  state: LegState;
  /** Of the accounts here, once posted. */
  balances: readonly BalanceAfter[];
  /** Once posted: its number, or which of the batch's events it is. */
  event: bigint | BatchEvent | undefined;
  /** What the batch has to do with its row. */
  row: "unchanged" | "new" | "changed";
}
