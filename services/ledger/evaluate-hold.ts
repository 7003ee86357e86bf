import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { CreateHoldCommand, ExpireHoldCommand, VoidHoldCommand } from "#services/ledger/command.ts";
import { encodeHoldChanged } from "#services/ledger/encode-hold.ts";
import {
  type HoldCapture,
  type HoldSnapshot,
  type HoldState,
  type LockedHold,
  remainingOf,
} from "#services/ledger/hold.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { type LockedAccount, type PostingLine, TRANSIT_REFERENCE } from "#services/ledger/transfer.ts";

/** The rules of holds, pure: the states are at the top of hold.ts. A capture is a transfer, see evaluate-transfer.ts. */

const DAY_MS = 24 * 60 * 60 * 1_000;
export const DEFAULT_HOLD_MS = 7 * DAY_MS;
export const MAX_HOLD_MS = 365 * DAY_MS;

/** Sets money aside. */
export function evaluateCreateHold(command: CreateHoldCommand, batch: Batch): Evaluation {
  if (command.refusedElsewhere !== undefined) return { kind: "refused", ...command.refusedElsewhere };
  const { holdId, holdUuid, bucket, debit, credit, amountMinorUnits, currency } = command;
  const account = batch.accounts.get(debit.id);
  if (account === undefined) return notFound(debit.id, "debit_account_id");
  const creditAccount = batch.accounts.get(credit.id);
  if (command.creditIsHere && creditAccount === undefined) return notFound(credit.id, "credit_account_id");

  const expireTimeMs = command.expireTimeMs ?? batch.nowMs + DEFAULT_HOLD_MS;
  const refusal =
    refuseAccountOfHold(account, currency) ??
    (creditAccount === undefined ? undefined : refuseAccountOfHold(creditAccount, currency)) ??
    refuseExpireTime(expireTimeMs, batch.nowMs) ??
    refuseFunds(account, amountMinorUnits);
  if (refusal !== undefined) return { kind: "refused", refusal, remembered: true };

  const hold: LockedHold = {
    holdId,
    holdUuid,
    bucket,
    debit,
    credit,
    amountMinorUnits,
    currency,
    expireTimeMs,
    createTimeMs: batch.nowMs,
    capturedMinorUnits: 0n,
    state: "OPEN",
    version: 1n,
    row: "new",
  };
  batch.holds.set(holdId, hold);
  account.heldMinorUnits += amountMinorUnits;
  touch(account);
  return changed(hold, account, batch);
}

function notFound(accountId: string, field: string): Evaluation {
  return { kind: "refused", refusal: refusals.postingAccountNotFound(accountId, field), remembered: false };
}

/** Why an account may not stand on either side of a new hold. */
export function refuseAccountOfHold(
  account: Pick<LockedAccount, "id" | "status" | "currency" | "reference">,
  currency: string,
): Refusal | undefined {
  if (account.reference === TRANSIT_REFERENCE) return refusals.transitReserved(account.id);
  if (account.status !== "ACTIVE") return refusals.accountNotActive(account.id, account.status);
  return account.currency === currency ? undefined : refusals.currencyMismatch(account.id, account.currency, currency);
}

function refuseExpireTime(expireTimeMs: number, nowMs: number): Refusal | undefined {
  if (expireTimeMs <= nowMs) return refusals.expireTimeInPast(new Date(nowMs));
  const latestMs = nowMs + MAX_HOLD_MS;
  return expireTimeMs > latestMs ? refusals.expireTimeTooFar(new Date(latestMs)) : undefined;
}

function refuseFunds(account: LockedAccount, amountMinorUnits: bigint): Refusal | undefined {
  const { id, postedMinorUnits, heldMinorUnits, floorMinorUnits, preparedDebitMinorUnits } = account;
  const available = postedMinorUnits - heldMinorUnits;
  if (floorMinorUnits !== undefined && available - amountMinorUnits < floorMinorUnits) {
    return refusals.insufficientFunds(id, available, floorMinorUnits, amountMinorUnits);
  }
  const fits =
    available - amountMinorUnits - preparedDebitMinorUnits >= MIN_MINOR_UNITS &&
    heldMinorUnits + amountMinorUnits <= MAX_MINOR_UNITS;
  return fits ? undefined : refusals.balanceOverflow(id);
}

/** Gives what is left back to the payer. */
export function evaluateVoidHold({ holdId }: VoidHoldCommand, batch: Batch): Evaluation {
  const hold = batch.holds.get(holdId);
  if (hold === undefined) return { kind: "refused", refusal: refusals.holdNotFound(holdId), remembered: false };
  const refusal = refuseChange(hold, batch.nowMs);
  if (refusal !== undefined) return { kind: "refused", refusal, remembered: true };
  return release(hold, "VOIDED", batch);
}

/** Gives what is left back when the hold's time is over. Harmless when it is done twice, or too early. */
export function evaluateExpireHold({ holdId }: ExpireHoldCommand, batch: Batch): Evaluation {
  const hold = batch.holds.get(holdId);
  if (hold === undefined || hold.state !== "OPEN" || batch.nowMs < hold.expireTimeMs) {
    return { kind: "done", answer: { kind: "none" }, event: undefined };
  }
  return release(hold, "EXPIRED", batch);
}

function release(hold: LockedHold, state: HoldState, batch: Batch): Evaluation {
  const account = payerOf(hold, batch);
  account.heldMinorUnits -= remainingOf(hold);
  touch(account);
  move(hold, state);
  return changed(hold, account, batch);
}

/** A capture that may be made. */
export interface Capture {
  readonly kind: "capture";
  readonly hold: LockedHold;
  readonly amountMinorUnits: bigint;
  /** What it lets go of: its amount, and of a final one all that is left. */
  readonly releasedMinorUnits: bigint;
}

/** Whether a capture may be made. Changes nothing. */
export function checkCapture(
  capture: HoldCapture,
  postings: readonly PostingLine[],
  batch: Batch,
): Capture | Extract<Evaluation, { kind: "refused" }> {
  const hold = batch.holds.get(capture.holdId);
  if (hold === undefined) {
    return { kind: "refused", refusal: refusals.holdNotFound(capture.holdId), remembered: false };
  }
  const [posting, ...others] = postings;
  if (others.length > 0 || posting?.debitAccountId !== hold.debit.id || posting.creditAccountId !== hold.credit.id) {
    throw new Defect(`a capture of ${hold.holdId} goes elsewhere`);
  }
  const { amountMinorUnits } = posting;
  const closed = refuseChange(hold, batch.nowMs);
  if (closed !== undefined) return { kind: "refused", refusal: closed, remembered: true };
  const remaining = remainingOf(hold);
  if (capture.isRest && amountMinorUnits !== remaining) {
    return { kind: "refused", refusal: refusals.holdContended(hold.holdId), remembered: false };
  }
  if (amountMinorUnits > remaining) {
    const refusal = refusals.captureExceedsHold(hold.holdId, remaining, amountMinorUnits);
    return { kind: "refused", refusal, remembered: true };
  }
  return { kind: "capture", hold, amountMinorUnits, releasedMinorUnits: capture.final ? remaining : amountMinorUnits };
}

/** Makes what a capture takes available to its posting. */
export function letGo({ hold, releasedMinorUnits }: Capture, batch: Batch): void {
  payerOf(hold, batch).heldMinorUnits -= releasedMinorUnits;
}

/** Notes a capture whose posting is entered. The account is the transfer's to tell of. */
export function noteCapture({ hold, amountMinorUnits, releasedMinorUnits }: Capture, batch: Batch): void {
  const isLast = releasedMinorUnits === remainingOf(hold);
  hold.capturedMinorUnits += amountMinorUnits;
  move(hold, isLast ? "CAPTURED" : "OPEN");
  addHoldEvent(hold, undefined, batch);
}

/** Only an open hold changes, and only before its time is over. */
function refuseChange({ holdId, state, expireTimeMs }: HoldSnapshot, nowMs: number): Refusal | undefined {
  if (state !== "OPEN") return refusals.holdNotOpen(holdId, state);
  return nowMs >= expireTimeMs ? refusals.holdNotOpen(holdId, "EXPIRED") : undefined;
}

function move(hold: LockedHold, state: HoldState): void {
  if (hold.state !== "OPEN") throw new Defect(`${hold.holdId} is ${hold.state} and was to become ${state}`);
  hold.state = state;
  hold.version += 1n;
  if (hold.row === "unchanged") hold.row = "changed";
}

function payerOf({ holdId, debit }: LockedHold, { accounts }: Batch): LockedAccount {
  const account = accounts.get(debit.id);
  if (account === undefined) throw new Defect(`the account of ${holdId} is not locked`);
  return account;
}

function touch(account: LockedAccount): void {
  account.version += 1n;
  account.touched = true;
}

function changed(hold: LockedHold, account: LockedAccount, batch: Batch): Evaluation {
  const event = addHoldEvent(hold, account, batch);
  const { row: _, ...snapshot } = hold;
  return { kind: "done", answer: { kind: "hold", hold: snapshot }, event };
}

function addHoldEvent(hold: LockedHold, account: LockedAccount | undefined, batch: Batch): BatchEvent {
  return addEvent(batch, {
    bucket: hold.bucket,
    aggregateId: hold.holdId,
    aggregateVersion: hold.version,
    type: "hold_changed",
    payload: encodeHoldChanged(hold, account),
  });
}
