import { bucketOfUuid } from "#lib/ids.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { LockedAccount, TransferCommand } from "#services/ledger/transfer.ts";

/** What a group came to. A refused one has changed nothing. */
export type GroupEvaluation =
  /** One per member, in order. */
  | { readonly kind: "done"; readonly evaluations: readonly Extract<Evaluation, { kind: "done" }>[] }
  /** `at`: the member that is refused, from 0. */
  | { readonly kind: "refused"; readonly at: number; readonly refusal: Refusal; readonly remembered: boolean };

/**
 * Decides the members of a group one after the other, as transfers of their own: each finds what those before it have done.
 * When one is refused, what those before it have done is undone. Beyond the rules of each, the debited accounts with a floor
 * are of one bucket, as those of one transfer are: only then can one commit decide about all of them wherever they are moved.
 */
export function evaluateGroup(members: readonly TransferCommand[], batch: Batch): GroupEvaluation {
  const undo = rememberState(members, batch);
  const evaluations: Extract<Evaluation, { kind: "done" }>[] = [];
  const limitedDebits = new Map<number, string>();
  for (const [at, member] of members.entries()) {
    const evaluation = evaluateTransfer(member, batch);
    if (evaluation.kind === "refused") {
      undo();
      return { kind: "refused", at, refusal: evaluation.refusal, remembered: evaluation.remembered };
    }
    for (const { debit } of member.local) {
      if (batch.accounts.get(debit.id)?.floorMinorUnits === undefined) continue;
      limitedDebits.set(bucketOfUuid(debit.uuid), debit.id);
    }
    if (limitedDebits.size > 1) {
      undo();
      return {
        kind: "refused",
        at,
        refusal: refusals.debitsInSeveralBuckets([...limitedDebits.values()]),
        remembered: true,
      };
    }
    evaluations.push(evaluation);
  }
  return { kind: "done", evaluations };
}

/** Answers how to bring the batch back to what it is now, after any of the members. */
function rememberState(members: readonly TransferCommand[], batch: Batch): () => void {
  // They would change more than is remembered here.
  if (members.some(({ capture, reversal, quote }) => (capture ?? reversal ?? quote) !== undefined)) {
    throw new Defect("captures, reversals and conversions can be no members of a group");
  }
  const before = new Map<LockedAccount, LockedAccount>();
  for (const { id } of members.flatMap(({ accounts }) => accounts)) {
    const account = batch.accounts.get(id);
    if (account !== undefined) before.set(account, { ...account });
  }
  const decided = members.filter(({ transferId }) => batch.decisions.has(transferId));
  const written = [batch.transfers, batch.entries, batch.events] as const;
  const lengths = written.map(({ length }) => length);
  return () => {
    for (const [account, state] of before) Object.assign(account, state);
    for (const member of members) if (!decided.includes(member)) batch.decisions.delete(member.transferId);
    for (const [index, rows] of written.entries()) rows.length = lengths[index] as number;
  };
}

/**
 * What each member of a group is told: those that are refused themselves their reason, the others that the group is. What
 * may be tried again, since nobody's request is at fault, is told to all.
 */
export function refuseGroup(own: readonly (Refusal | undefined)[], keys: readonly string[]): Refusal[] {
  const at = own.findIndex((refusal) => refusal !== undefined);
  const first = own[at];
  if (first === undefined) throw new Defect("a group without a refused member was to be refused");
  if (first.retryAfterMs !== undefined) return own.map(() => first);
  return own.map((refusal) => refusal ?? refusals.groupRefused(at, keys[at] as string, first.reason));
}
