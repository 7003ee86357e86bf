import { bucketOfUuid } from "#lib/ids.ts";
import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type {
  EntryLine,
  LockedAccount,
  PostedTransfer,
  PostingCommand,
  TransferCommand,
} from "#services/ledger/transfer.ts";

/**
 * The rules of the ledger: decides one transfer against the locked accounts, and changes them when it is posted. Pure: no
 * clock, no database. Postings are made in their order, and each must leave floors and the int64 range respected, so that
 * every `balance_after` that is written is a balance that was allowed.
 */
export type Evaluation =
  | {
      readonly kind: "posted";
      readonly transfer: PostedTransfer;
      readonly entries: readonly EntryLine[];
      readonly accounts: readonly LockedAccount[];
    }
  /** `remembered`: a business refusal, replayed under the key. Otherwise the request itself was wrong. */
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly remembered: boolean };

/** `nowMs` is the clock of the shard's Postgres after the locks. Unknown accounts are missing in `accounts`. */
export function evaluateTransfer(
  command: TransferCommand,
  accounts: ReadonlyMap<string, LockedAccount>,
  nowMs: number,
): Evaluation {
  for (const [index, posting] of command.postings.entries()) {
    for (const side of ["debit", "credit"] as const) {
      if (!accounts.has(posting[side].id)) {
        const field = `postings[${index}].${side}_account_id`;
        return {
          kind: "refused",
          refusal: refusals.postingAccountNotFound(posting[side].id, field),
          remembered: false,
        };
      }
    }
  }
  const touched = touchedAccounts(command.postings, accounts);
  const refusal = refuseAccounts(command, touched, accounts) ?? refuseTimes(command, touched, nowMs);
  if (refusal !== undefined) return { kind: "refused", refusal, remembered: true };

  const before = touched.map(({ postedMinorUnits, entrySequence }) => ({ postedMinorUnits, entrySequence }));
  const entries: EntryLine[] = [];
  for (const [index, posting] of command.postings.entries()) {
    const failed = applyPosting(posting, index, accounts, entries);
    if (failed !== undefined) {
      for (const [position, account] of touched.entries()) Object.assign(account, before[position]);
      return { kind: "refused", refusal: failed, remembered: true };
    }
  }

  const postTimeMs = Math.max(nowMs, ...touched.map(({ lastPostTimeMs }) => lastPostTimeMs));
  const effectiveTimeMs = command.effectiveTimeMs ?? postTimeMs;
  for (const account of touched) {
    account.version += 1n;
    account.lastPostTimeMs = postTimeMs;
    account.lastEffectiveTimeMs = effectiveTimeMs;
    account.touched = true;
  }
  const transfer: PostedTransfer = {
    transferId: command.transferId,
    state: "POSTED",
    type: command.type,
    memo: command.memo,
    metadata: command.metadata,
    postings: command.postings.map(({ debit, credit, amountMinorUnits, currency }) => ({
      debitAccountId: debit.id,
      creditAccountId: credit.id,
      amountMinorUnits,
      currency,
    })),
    balances: touched.map(({ id, postedMinorUnits, heldMinorUnits, version }) => ({
      accountId: id,
      postedMinorUnits,
      heldMinorUnits,
      version,
    })),
    postTimeMs,
    effectiveTimeMs,
  };
  return { kind: "posted", transfer, entries, accounts: touched };
}

/** Every account of the postings once, in the order of their first mention. */
function touchedAccounts(
  postings: readonly PostingCommand[],
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
  for (const { debit, credit, currency } of command.postings) {
    for (const { id } of [debit, credit]) {
      const account = accounts.get(id) as LockedAccount;
      if (account.currency !== currency) return refusals.currencyMismatch(id, account.currency, currency);
    }
    if (accounts.get(debit.id)?.floorMinorUnits !== undefined) limitedDebits.set(bucketOfUuid(debit.uuid), debit.id);
  }
  if (limitedDebits.size > 1) return refusals.debitsInSeveralBuckets([...limitedDebits.values()]);
  return undefined;
}

function refuseTimes(command: TransferCommand, touched: readonly LockedAccount[], nowMs: number): Refusal | undefined {
  if (command.effectiveTimeMs === undefined) return undefined;
  if (command.effectiveTimeMs > nowMs) return refusals.effectiveTimeInFuture(new Date(nowMs));
  for (const { id, lastEffectiveTimeMs } of touched) {
    if (command.effectiveTimeMs < lastEffectiveTimeMs) {
      return refusals.effectiveTimeNotMonotonic(id, new Date(lastEffectiveTimeMs));
    }
  }
  return undefined;
}

function applyPosting(
  posting: PostingCommand,
  postingIndex: number,
  accounts: ReadonlyMap<string, LockedAccount>,
  entries: EntryLine[],
): Refusal | undefined {
  const { amountMinorUnits, currency } = posting;
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
  if (debitAfter - debit.heldMinorUnits < MIN_MINOR_UNITS) return refusals.balanceOverflow(debit.id);
  if (creditAfter > MAX_MINOR_UNITS) return refusals.balanceOverflow(credit.id);

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
      counterparty: credit,
    },
    {
      account: credit,
      sequence: credit.entrySequence,
      postingIndex,
      amountMinorUnits,
      balanceAfterMinorUnits: creditAfter,
      currency,
      counterparty: debit,
    },
  );
  return undefined;
}
