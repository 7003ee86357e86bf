import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { AccountChange, SetAccountStatusCommand } from "#services/ledger/command.ts";
import { encodeAccountSnapshot } from "#services/ledger/encode-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { type LockedAccount, SYSTEM_PREFIX, TRANSIT_REFERENCE } from "#services/ledger/transfer.ts";

/**
 * The status of an account:
 *
 *   ACTIVE -> FROZEN    it takes neither debits nor credits; what another shard's transfer has prepared still arrives
 *   FROZEN -> ACTIVE
 *   ACTIVE -> CLOSED    for ever, and only when it is empty and nothing is under way to it. Its entries stay, and its
 *   FROZEN -> CLOSED    reference stays taken: one name never stands for two accounts
 *   PENDING             nothing brings an account there yet, and nothing out of it
 *
 * The transit account is never frozen or closed: legs that are decided must pass. Neither is an account named `system:NAME`
 * ever closed, since the name is resolved once and remembered by every process; frozen it may be.
 */
const MOVES: Readonly<Record<AccountChange, { from: readonly string[]; to: string; done: string }>> = {
  freeze: { from: ["ACTIVE"], to: "FROZEN", done: "frozen" },
  unfreeze: { from: ["FROZEN"], to: "ACTIVE", done: "unfrozen" },
  close: { from: ["ACTIVE", "FROZEN"], to: "CLOSED", done: "closed" },
};

/** Decides a change of status under the account's lock: every transfer of the shard comes either before it or after it. */
export function setAccountStatus(command: SetAccountStatusCommand, batch: Batch): Evaluation {
  const { id } = command.account;
  const account = batch.accounts.get(id);
  if (account === undefined) return { kind: "refused", refusal: refusals.accountNotFound(id), remembered: false };
  const { from, to, done } = MOVES[command.change];
  if (account.reference === TRANSIT_REFERENCE) return refused(refusals.accountReserved(id));
  if (!from.includes(account.status)) return refused(refusals.accountCannotChange(id, account.status, done));
  if (to === "CLOSED") {
    const refusal = refuseClosing(account);
    if (refusal !== undefined) return refused(refusal);
  }
  account.status = to;
  account.version += 1n;
  account.touched = true;
  const event = addEvent(batch, {
    bucket: command.key.bucket,
    aggregateId: id,
    aggregateVersion: account.version,
    type: "account_changed",
    payload: encodeAccountChanged(account, command.reason),
  });
  return { kind: "done", answer: { kind: "resource", resourceUuid: account.uuid }, event };
}

/**
 * What could still move money of the account would find it closed. A decision of this shard that is committed and not yet
 * closed is no such thing: it has made its debits and credits here in its own commit, and what is open of it concerns the
 * accounts of other shards only.
 */
function refuseClosing(account: LockedAccount) {
  const { id, reference, postedMinorUnits, heldMinorUnits } = account;
  const { preparedDebitMinorUnits, preparedCreditMinorUnits } = account;
  if (reference.startsWith(SYSTEM_PREFIX)) return refusals.systemAccountStaysOpen(id, reference);
  if (preparedDebitMinorUnits !== 0n || preparedCreditMinorUnits !== 0n) {
    return refusals.accountHasTransfersUnderWay(id, preparedDebitMinorUnits, preparedCreditMinorUnits);
  }
  if (heldMinorUnits !== 0n) return refusals.accountHasHolds(id, heldMinorUnits);
  if (postedMinorUnits !== 0n) return refusals.accountNotEmpty(id, postedMinorUnits);
  return undefined;
}

function refused(refusal: ReturnType<typeof refusals.accountNotFound>): Evaluation {
  return { kind: "refused", refusal, remembered: true };
}

/** The payload of `account_changed`. */
export function encodeAccountChanged(account: LockedAccount, reason: string): string {
  return `{"account":${encodeAccountSnapshot(account)},"reason":${JSON.stringify(reason)}}`;
}
