import type { AccountName } from "#services/ledger/command.ts";

/**
 * Money of an account set aside for later captures: `ledger.holds`, on the payer's shard.
 *
 *   OPEN -> OPEN        captured in part, the rest stays held
 *   OPEN -> CAPTURED    captured in full, or by a final capture that gives the rest back
 *   OPEN -> VOIDED      what is left is given back
 *   OPEN -> EXPIRED     the same, because its time is over
 *
 * Nothing else ever changes. From `expireTimeMs` on, by the clock of the shard's Postgres, an open hold can only become
 * EXPIRED, whether a worker (expire-holds.ts) has come to it yet or not. The held balance of an account is the sum of what
 * its OPEN holds have left.
 */
export type HoldState = "OPEN" | "CAPTURED" | "VOIDED" | "EXPIRED";

/** A hold as it is under its lock, and as a batch changes it before writing. */
export interface LockedHold {
  readonly holdId: string;
  readonly holdUuid: string;
  /** The payer's. */
  readonly bucket: number;
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  readonly expireTimeMs: number;
  readonly createTimeMs: number;
  capturedMinorUnits: bigint;
  state: HoldState;
  version: bigint;
  /** What the batch has to do with its row. */
  row: "unchanged" | "new" | "changed";
}

/** A hold as it was at one moment. */
export type HoldSnapshot = Readonly<Omit<LockedHold, "row">>;

/** That a transfer is a capture, and of what. Its one posting goes from the hold's debit account to its credit account. */
export interface HoldCapture {
  readonly holdId: string;
  /** The amount is what was left when the hold was read, and must be so still. */
  readonly isRest: boolean;
  /** What is left afterwards is given back. */
  readonly final: boolean;
}

/** What can be captured still. */
export function remainingOf({ state, amountMinorUnits, capturedMinorUnits }: HoldSnapshot): bigint {
  return state === "OPEN" ? amountMinorUnits - capturedMinorUnits : 0n;
}
