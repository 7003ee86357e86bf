import { bucketOfUuid } from "#lib/ids.ts";
import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import { encodeTransferPosted } from "#services/ledger/encode-transfer.ts";
import { checkCapture, letGo, noteCapture } from "#services/ledger/evaluate-hold.ts";
import { refuseClaim, useOpenQuote } from "#services/ledger/evaluate-quote.ts";
import { enterRefunds, settleReversal } from "#services/ledger/evaluate-reversal.ts";
import { refusals } from "#services/ledger/refusals.ts";
import {
  type BalanceAfter,
  type EntryLine,
  type LocalPosting,
  type LockedAccount,
  type PostedTransfer,
  TRANSIT_REFERENCE,
  type TransferCommand,
} from "#services/ledger/transfer.ts";

/**
 * The rules of the ledger: decides one transfer against the locked accounts, and changes them when it is posted. Pure: no
 * clock, no database. Postings are made in their order, and each must leave floors and the int64 range respected, so that
 * every `balance_after` that is written is a balance that was allowed.
 *
 * With legs on other shards this is the decision: they are prepared, and will be posted when this commits.
 *
 * A capture lets go of what is held and enters its posting in one change of the account: nobody can take the money between.
 */
export function evaluateTransfer(asked: TransferCommand, batch: Batch): Evaluation {
  const capture = asked.capture === undefined ? undefined : checkCapture(asked.capture, asked.postings, batch);
  if (capture?.kind === "refused") return capture;
  if (asked.refusedElsewhere !== undefined) return { kind: "refused", ...asked.refusedElsewhere };
  const settled = asked.reversal === undefined ? undefined : settleReversal(asked, asked.reversal, batch);
  if (settled?.kind === "refused") return settled;
  const command = settled?.command ?? asked;
  const { accounts, nowMs } = batch;
  const unknown = refuseUnknown(command, accounts);
  if (unknown !== undefined) return { kind: "refused", refusal: unknown, remembered: false };
  if (command.crossShard && batch.decisions.get(command.transferId) !== undefined) {
    return { kind: "refused", refusal: refusals.transferAborted(command.transferId), remembered: false };
  }
  const claim = command.quote?.isHere === true ? command.quote.claim : undefined;
  const refusedClaim = claim === undefined ? undefined : refuseClaim(claim, batch);
  if (refusedClaim !== undefined) return refusedClaim;
  const touched = touchedAccounts(command.local, accounts);
  const refusal = refuseAccounts(command, touched, accounts) ?? refuseTimes(command, touched, nowMs);
  if (refusal !== undefined) return { kind: "refused", refusal, remembered: true };

  const before = touched.map(({ postedMinorUnits, heldMinorUnits, entrySequence }) => {
    return { postedMinorUnits, heldMinorUnits, entrySequence };
  });
  if (capture !== undefined) letGo(capture, batch);
  const entries: EntryLine[] = [];
  for (const posting of command.local) {
    const failed = enterPosting(posting, accounts, entries);
    if (failed !== undefined) {
      for (const [position, account] of touched.entries()) Object.assign(account, before[position]);
      return { kind: "refused", refusal: failed, remembered: true };
    }
  }

  const postTimeMs = Math.max(nowMs, ...touched.map(({ lastPostTimeMs }) => lastPostTimeMs));
  const effectiveTimeMs = command.effectiveTimeMs ?? postTimeMs;
  stampAccounts(touched, postTimeMs, effectiveTimeMs);
  const { transferId, transferUuid, bucket, type, memo, metadata, postings, links } = command;
  const transfer: PostedTransfer = {
    transferId,
    state: "POSTED",
    type,
    memo,
    metadata,
    postings,
    balances: touched.filter(({ reference }) => reference !== TRANSIT_REFERENCE).map(balanceAfter),
    postTimeMs,
    effectiveTimeMs,
    links,
  };
  // Its event comes first: who has seen the transfer's number has seen both.
  if (capture !== undefined) noteCapture(capture, batch);
  const event = addEvent(batch, {
    bucket,
    aggregateId: transferId,
    aggregateVersion: 1n,
    type: "transfer_posted",
    payload: encodeTransferPosted(transfer, entries, touched),
  });
  if (claim !== undefined) useOpenQuote(claim, batch);
  if (command.crossShard) batch.decisions.set(transferId, { transferUuid, bucket, state: "COMMITTED", row: "new" });
  if (command.reversal !== undefined) enterRefunds(command, command.reversal, batch);
  for (const entry of entries) batch.entries.push({ transferUuid, entry, postTimeMs, effectiveTimeMs });
  batch.transfers.push({ command, transfer, event });
  return { kind: "done", answer: { kind: "transfer", transfer }, event };
}

function refuseUnknown(command: TransferCommand, accounts: ReadonlyMap<string, LockedAccount>): Refusal | undefined {
  for (const { index, debit, credit } of command.local) {
    for (const [side, { id }] of [
      ["debit", debit],
      ["credit", credit],
    ] as const) {
      if (!accounts.has(id)) return refusals.postingAccountNotFound(id, `postings[${index}].${side}_account_id`);
    }
  }
  return undefined;
}

/** Every account of the postings once, in the order of their first mention. */
function touchedAccounts(
  postings: readonly LocalPosting[],
  accounts: ReadonlyMap<string, LockedAccount>,
): LockedAccount[] {
  const touched = new Set<LockedAccount>();
  for (const { debit, credit } of postings) {
    touched.add(accounts.get(debit.id) as LockedAccount);
    touched.add(accounts.get(credit.id) as LockedAccount);
  }
  return [...touched];
}

function refuseAccounts(
  command: TransferCommand,
  touched: readonly LockedAccount[],
  accounts: ReadonlyMap<string, LockedAccount>,
): Refusal | undefined {
  for (const { id, status } of touched) {
    if (status !== "ACTIVE") return refusals.accountNotActive(id, status);
  }
  const limitedDebits = new Map<number, string>();
  for (const posting of command.local) {
    for (const { id } of [posting.debit, posting.credit]) {
      const account = accounts.get(id) as LockedAccount;
      if (account.currency !== posting.currency) {
        return refusals.currencyMismatch(id, account.currency, posting.currency);
      }
      if (account.reference === TRANSIT_REFERENCE && isNamed(id, posting)) return refusals.transitReserved(id);
    }
    const { id, uuid } = posting.debit;
    if (accounts.get(id)?.floorMinorUnits !== undefined) limitedDebits.set(bucketOfUuid(uuid), id);
  }
  if (limitedDebits.size > 1) return refusals.debitsInSeveralBuckets([...limitedDebits.values()]);
  return undefined;
}

/** Whether the request itself names the account, and it does not stand for one on another shard. */
function isNamed(id: string, { debitCounterparty, creditCounterparty }: LocalPosting): boolean {
  return id === debitCounterparty.id || id === creditCounterparty.id;
}

function refuseTimes(command: TransferCommand, touched: readonly LockedAccount[], nowMs: number): Refusal | undefined {
  if (command.effectiveTimeMs === undefined) return undefined;
  if (command.effectiveTimeMs > nowMs) return refusals.effectiveTimeInFuture(new Date(nowMs));
  for (const { id, lastEffectiveTimeMs, reference } of touched) {
    // What passes through transit keeps its own time.
    if (command.effectiveTimeMs < lastEffectiveTimeMs && reference !== TRANSIT_REFERENCE) {
      return refusals.effectiveTimeNotMonotonic(id, new Date(lastEffectiveTimeMs));
    }
  }
  return undefined;
}

/** Enters one posting: changes both accounts and adds two entries; or says why not, and has changed nothing. */
export function enterPosting(
  posting: LocalPosting,
  accounts: ReadonlyMap<string, LockedAccount>,
  entries: EntryLine[],
): Refusal | undefined {
  const { amountMinorUnits, currency, index: postingIndex } = posting;
  // Refused before it was queued; here it would make money.
  if (posting.debit.id === posting.credit.id)
    throw new Defect(`${posting.debit.id} is debited and credited by one posting`);
  const debit = accounts.get(posting.debit.id) as LockedAccount;
  const credit = accounts.get(posting.credit.id) as LockedAccount;
  const debitAfter = debit.postedMinorUnits - amountMinorUnits;
  const creditAfter = credit.postedMinorUnits + amountMinorUnits;
  if (debit.floorMinorUnits !== undefined && debitAfter - debit.heldMinorUnits < debit.floorMinorUnits) {
    const available = debit.postedMinorUnits - debit.heldMinorUnits;
    return refusals.insufficientFunds(debit.id, available, debit.floorMinorUnits, amountMinorUnits);
  }
  if (debitAfter - debit.heldMinorUnits - debit.preparedDebitMinorUnits < MIN_MINOR_UNITS) {
    return refusals.balanceOverflow(debit.id);
  }
  if (creditAfter + credit.preparedCreditMinorUnits > MAX_MINOR_UNITS) return refusals.balanceOverflow(credit.id);

  debit.postedMinorUnits = debitAfter;
  credit.postedMinorUnits = creditAfter;
  debit.entrySequence += 1n;
  credit.entrySequence += 1n;
  entries.push(
    {
      account: debit,
      sequence: debit.entrySequence,
      postingIndex,
      amountMinorUnits: -amountMinorUnits,
      balanceAfterMinorUnits: debitAfter,
      currency,
      counterparty: posting.debitCounterparty,
    },
    {
      account: credit,
      sequence: credit.entrySequence,
      postingIndex,
      amountMinorUnits,
      balanceAfterMinorUnits: creditAfter,
      currency,
      counterparty: posting.creditCounterparty,
    },
  );
  return undefined;
}

/** Notes on every account that a command has touched it, once. */
export function stampAccounts(accounts: readonly LockedAccount[], postTimeMs: number, effectiveTimeMs: number): void {
  for (const account of accounts) {
    account.version += 1n;
    account.lastPostTimeMs = postTimeMs;
    account.lastEffectiveTimeMs = effectiveTimeMs;
    account.touched = true;
  }
}

export function balanceAfter({ id, postedMinorUnits, heldMinorUnits, version }: LockedAccount): BalanceAfter {
  return { accountId: id, postedMinorUnits, heldMinorUnits, version };
}
