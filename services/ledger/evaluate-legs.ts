import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { AccountName, PostLegsCommand, PrepareLegsCommand, ReleaseLegsCommand } from "#services/ledger/command.ts";
import { encodeLegPosted } from "#services/ledger/encode-transfer.ts";
import { refuseClaim, reopenQuote, reserveQuote, useReservedQuote } from "#services/ledger/evaluate-quote.ts";
import { balanceAfter, enterPosting, stampAccounts } from "#services/ledger/evaluate-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { LockedLeg, RemoteLeg } from "#services/ledger/remote-leg.ts";
import { type EntryLine, type LocalPosting, type LockedAccount, TRANSIT_REFERENCE } from "#services/ledger/transfer.ts";

/**
 * The credited shards of a transfer from another shard (docs/decisions/0010-cross-shard.md). Everything that could refuse a
 * leg is checked when it is prepared; what is checked stays so until it is posted: the amount keeps its room in the int64
 * range on both sides, transit's too, the account can not be closed, and a freeze that comes later does not stop it.
 */
export function prepareLegs({ transferId, legs, quote, transitOf }: PrepareLegsCommand, batch: Batch): Evaluation {
  const known = batch.legs.get(transferId);
  if (known !== undefined) {
    // Released by recovery, which took this call for dead: the transfer can not happen any more.
    if (known.some(({ state }) => state === "RELEASED")) {
      return { kind: "refused", refusal: refusals.transferAborted(transferId), remembered: false };
    }
    return { kind: "done", answer: { kind: "legs", legs: known }, event: undefined };
  }
  const refusedClaim = quote === undefined ? undefined : refuseClaim(quote, batch);
  if (refusedClaim !== undefined) return refusedClaim;
  const reserved = new Map<LockedAccount, { debit: bigint; credit: bigint }>();
  for (const leg of legs) {
    const refused = prepareLeg(leg, transitOf, batch, reserved);
    if (refused !== undefined) return refused;
  }
  for (const [account, { debit, credit }] of reserved) {
    account.preparedDebitMinorUnits += debit;
    account.preparedCreditMinorUnits += credit;
    account.touched = true;
  }
  const prepared = legs.map(
    (leg): LockedLeg => ({ ...leg, state: "PREPARED", balances: [], event: undefined, row: "new" }),
  );
  if (prepared.length > 0) batch.legs.set(transferId, prepared);
  if (quote !== undefined) reserveQuote(quote, batch);
  return { kind: "done", answer: { kind: "legs", legs: prepared }, event: undefined };
}

/** Adds the leg to what is reserved, unless it is refused. */
function prepareLeg(
  leg: RemoteLeg,
  transitOf: ReadonlyMap<string, AccountName>,
  { accounts }: Batch,
  reserved: Map<LockedAccount, { debit: bigint; credit: bigint }>,
): Evaluation | undefined {
  const { postingIndex, amountMinorUnits, currency } = leg;
  const posting = toLocalPosting(leg, transitOf);
  for (const side of ["debit", "credit"] as const) {
    const isNamed = side === "debit" ? leg.debitIsHere : leg.creditIsHere;
    const { id } = posting[side];
    const account = accounts.get(id);
    if (account === undefined) {
      const field = `postings[${postingIndex}].${side}_account_id`;
      return { kind: "refused", refusal: refusals.postingAccountNotFound(id, field), remembered: false };
    }
    const before = reserved.get(account) ?? { debit: 0n, credit: 0n };
    const after = { ...before, [side]: before[side] + amountMinorUnits };
    const refusal =
      (isNamed ? refuseNamed(leg, side, account) : undefined) ??
      refuseRoom(side, account, after) ??
      refuseCurrency(account, currency);
    if (refusal !== undefined) return { kind: "refused", refusal, remembered: true };
    reserved.set(account, after);
  }
  return undefined;
}

/** Why an account that the posting names may not stand on its side. */
function refuseNamed(leg: RemoteLeg, side: "debit" | "credit", account: LockedAccount): Refusal | undefined {
  if (account.reference === TRANSIT_REFERENCE) return refusals.transitReserved(account.id);
  if (account.status !== "ACTIVE") return refusals.accountNotActive(account.id, account.status);
  if (leg.effectiveTimeMs !== undefined && leg.effectiveTimeMs < account.lastEffectiveTimeMs) {
    return refusals.effectiveTimeNotMonotonic(account.id, new Date(account.lastEffectiveTimeMs));
  }
  // Whether a floor is respected can only be known on the payer's shard.
  if (side === "debit" && account.floorMinorUnits !== undefined) return refusals.debitsInSeveralBuckets([account.id]);
  return undefined;
}

function refuseRoom(
  side: "debit" | "credit",
  account: LockedAccount,
  reserved: { debit: bigint; credit: bigint },
): Refusal | undefined {
  const { postedMinorUnits, heldMinorUnits, preparedCreditMinorUnits, preparedDebitMinorUnits } = account;
  const fits =
    side === "credit"
      ? postedMinorUnits + preparedCreditMinorUnits + reserved.credit <= MAX_MINOR_UNITS
      : postedMinorUnits - heldMinorUnits - preparedDebitMinorUnits - reserved.debit >= MIN_MINOR_UNITS;
  return fits ? undefined : refusals.balanceOverflow(account.id);
}

function refuseCurrency(account: LockedAccount, currency: string): Refusal | undefined {
  return account.currency === currency ? undefined : refusals.currencyMismatch(account.id, account.currency, currency);
}

/** Posts the legs of a transfer that the payer's shard has committed. Harmless when it is done twice. */
export function postLegs({ transferId, transitOf, quoteId }: PostLegsCommand, batch: Batch): Evaluation {
  const legs = batch.legs.get(transferId) ?? [];
  const [first] = legs;
  if (quoteId !== undefined) {
    useReservedQuote({ quoteId, transferId }, batch);
    if (first === undefined) return { kind: "done", answer: { kind: "legs", legs }, event: undefined };
  }
  if (first === undefined || legs.some(({ state }) => state === "RELEASED")) {
    throw new Defect(`${transferId} is committed, and its legs are not prepared`);
  }
  const answer = { kind: "legs", legs } as const;
  if (first.state === "POSTED") return { kind: "done", answer, event: first.event };

  const entries: EntryLine[] = [];
  const touched = new Set<LockedAccount>();
  for (const leg of legs) {
    const posting = toLocalPosting(leg, transitOf);
    unreserve(posting, batch);
    // The room was kept: a refusal here is a defect.
    const refusal = enterPosting(posting, batch.accounts, entries);
    if (refusal !== undefined) throw new Defect(`a prepared leg of ${transferId} is refused: ${refusal.message}`);
    for (const { id } of [posting.debit, posting.credit]) touched.add(batch.accounts.get(id) as LockedAccount);
  }
  const accounts = [...touched];
  const named = accounts.filter(({ reference }) => reference !== TRANSIT_REFERENCE);
  const postTimeMs = Math.max(batch.nowMs, ...accounts.map(({ lastPostTimeMs }) => lastPostTimeMs));
  // Entries may have come between preparing and posting: within an account it never falls.
  const effectiveTimeMs =
    first.effectiveTimeMs === undefined
      ? postTimeMs
      : Math.max(first.effectiveTimeMs, ...named.map(({ lastEffectiveTimeMs }) => lastEffectiveTimeMs));
  stampAccounts(accounts, postTimeMs, effectiveTimeMs);
  for (const entry of entries)
    batch.entries.push({ transferUuid: first.transferUuid, entry, postTimeMs, effectiveTimeMs });
  const event = addEvent(batch, {
    bucket: first.bucket,
    aggregateId: transferId,
    aggregateVersion: 1n,
    type: "transfer_leg_posted",
    payload: encodeLegPosted(first, entries, accounts, postTimeMs, effectiveTimeMs),
  });
  const balances = named.map(balanceAfter);
  for (const leg of legs) {
    leg.state = "POSTED";
    leg.balances = balances;
    leg.event = event;
    if (leg.row === "unchanged") leg.row = "changed";
  }
  return { kind: "done", answer, event };
}

/** Gives the room of a transfer back that will never be committed. Harmless when it is done twice, or for nothing. */
export function releaseLegs({ transferId, quoteId, transitOf }: ReleaseLegsCommand, batch: Batch): Evaluation {
  if (quoteId !== undefined) reopenQuote({ quoteId, transferId }, batch);
  for (const leg of batch.legs.get(transferId) ?? []) {
    if (leg.state === "POSTED") throw new Defect(`${transferId} is posted, and was to be released`);
    if (leg.state === "RELEASED") continue;
    unreserve(toLocalPosting(leg, transitOf), batch);
    leg.state = "RELEASED";
    if (leg.row === "unchanged") leg.row = "changed";
  }
  return { kind: "done", answer: { kind: "none" }, event: undefined };
}

function unreserve({ debit, credit, amountMinorUnits }: LocalPosting, { accounts }: Batch): void {
  const [debited, credited] = [accounts.get(debit.id) as LockedAccount, accounts.get(credit.id) as LockedAccount];
  debited.preparedDebitMinorUnits -= amountMinorUnits;
  debited.touched = true;
  credited.preparedCreditMinorUnits -= amountMinorUnits;
  credited.touched = true;
}

function toLocalPosting(leg: RemoteLeg, transitOf: ReadonlyMap<string, AccountName>): LocalPosting {
  const transit = () => {
    const account = transitOf.get(leg.currency);
    if (account === undefined) throw new Defect(`no transit account in ${leg.currency} was given`);
    return account;
  };
  return {
    index: leg.postingIndex,
    debit: leg.debitIsHere ? leg.debit : transit(),
    credit: leg.creditIsHere ? leg.credit : transit(),
    amountMinorUnits: leg.amountMinorUnits,
    currency: leg.currency,
    debitCounterparty: leg.credit,
    creditCounterparty: leg.debit,
  };
}
