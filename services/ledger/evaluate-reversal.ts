import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { Defect } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { CloseRefundsCommand, NoteReversedCommand } from "#services/ledger/command.ts";
import { encodeTransferReversed } from "#services/ledger/encode-transfer.ts";
import { postingName, type RefundedPosting } from "#services/ledger/refunded-posting.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { Reversal } from "#services/ledger/reversal.ts";
import type { TransferCommand } from "#services/ledger/transfer.ts";

/**
 * Taking transfers back (docs/decisions/0016-reversal.md): what is left of a posting is decided and changed beside the credited
 * account, by the transfer that debits it; afterwards the original's shard is told what is wholly taken back.
 */

/** A reversal whose amounts are what is left, or why there can be none. */
type SettledReversal =
  | { readonly kind: "settled"; readonly command: TransferCommand }
  | Extract<Evaluation, { kind: "refused" }>;

/** Holds a reversal against what is left of the postings, and settles its amounts. Changes nothing yet. */
export function settleReversal(command: TransferCommand, reversal: Reversal, batch: Batch): SettledReversal {
  if (reversal.cameFromElsewhere && !legsArePosted(reversal, batch)) {
    return { kind: "refused", refusal: refusals.transferStillProcessing(reversal.originalId), remembered: false };
  }
  const left = reversal.parts.map(({ postingIndex, creditedMinorUnits }) => {
    const refunded = batch.refunds.get(postingName(reversal.originalUuid, postingIndex));
    return creditedMinorUnits - (refunded?.refundedMinorUnits ?? 0n);
  });
  return reversal.everythingLeft ? settleEverything(command, reversal, left) : settleAmounts(command, reversal, left);
}

function settleAmounts(command: TransferCommand, reversal: Reversal, left: readonly bigint[]): SettledReversal {
  for (const [position, { amountMinorUnits }] of command.postings.entries()) {
    const remaining = left[position] as bigint;
    if (amountMinorUnits <= remaining) continue;
    const { postingIndex } = reversal.parts[position] as Reversal["parts"][number];
    const refusal = refusals.refundExceedsRemainder(reversal.originalId, postingIndex, remaining, amountMinorUnits);
    return { kind: "refused", refusal, remembered: true };
  }
  return { kind: "settled", command };
}

function settleEverything(command: TransferCommand, reversal: Reversal, left: readonly bigint[]): SettledReversal {
  if (left.every((amount) => amount === 0n)) {
    return { kind: "refused", refusal: refusals.alreadyReversed(reversal.originalId), remembered: true };
  }
  if (command.postings.every(({ amountMinorUnits }, position) => amountMinorUnits === left[position])) {
    return { kind: "settled", command };
  }
  // The legs on other shards are prepared for the amounts that were left a moment ago.
  if (command.crossShard) {
    return { kind: "refused", refusal: refusals.remainderChanged(reversal.originalId), remembered: false };
  }
  const kept = left.flatMap((amountMinorUnits, position) => (amountMinorUnits === 0n ? [] : [position]));
  const amountAt = (position: number) => ({ amountMinorUnits: left[position] as bigint });
  const parts = kept.map((position) => reversal.parts[position] as Reversal["parts"][number]);
  const settled: TransferCommand = {
    ...command,
    postings: kept.map((position) => ({ ...pick(command.postings, position), ...amountAt(position) })),
    local: kept.map((position, index) => ({ ...pick(command.local, position), ...amountAt(position), index })),
    links: { ...command.links, reversesPostingIndexes: parts.map(({ postingIndex }) => postingIndex) },
    reversal: { ...reversal, parts },
  };
  return { kind: "settled", command: settled };
}

function pick<Item>(items: readonly Item[], position: number): Item {
  const item = items[position];
  if (item === undefined) throw new Defect(`a reversal has no posting ${position} on this shard`);
  return item;
}

/** The original is committed; whether its credits are here already, its legs say. */
function legsArePosted({ originalId, parts }: Reversal, { legs }: Batch): boolean {
  const ofOriginal = legs.get(originalId) ?? [];
  return parts.every(({ postingIndex }) => {
    const leg = ofOriginal.find((one) => one.postingIndex === postingIndex && one.creditIsHere);
    if (leg === undefined || leg.state === "RELEASED") {
      throw new Defect(`posting ${postingIndex} of ${originalId} is committed, and has no leg on the shard it credits`);
    }
    return leg.state === "POSTED";
  });
}

/** Notes what a settled reversal takes back. */
export function enterRefunds({ postings, bucket }: TransferCommand, reversal: Reversal, { refunds }: Batch): void {
  for (const [position, { postingIndex, creditedMinorUnits }] of reversal.parts.entries()) {
    const transferUuid = reversal.originalUuid;
    const name = postingName(transferUuid, postingIndex);
    const before = refunds.get(name)?.refundedMinorUnits ?? 0n;
    const refundedMinorUnits = before + pick(postings, position).amountMinorUnits;
    if (refundedMinorUnits > creditedMinorUnits) {
      throw new Defect(
        `more than was credited would be taken back of posting ${postingIndex} of ${reversal.originalId}`,
      );
    }
    const state = refundedMinorUnits === creditedMinorUnits ? "EXHAUSTED" : "PARTIAL";
    const refund: RefundedPosting = {
      transferUuid,
      postingIndex,
      bucket,
      creditedMinorUnits,
      refundedMinorUnits,
      state,
      row: "changed",
    };
    refunds.set(name, refund);
  }
}

/** On the original's shard: these of its postings are wholly taken back. Harmless when it is done twice. */
export function noteReversed({ transferId, postingIndexes }: NoteReversedCommand, batch: Batch): Evaluation {
  const original = batch.originals.get(transferId);
  const count = original?.transfer.postings.length ?? 0;
  if (original === undefined || postingIndexes.some((index) => index < 0 || index >= count)) {
    throw new Defect(`postings ${postingIndexes.join(", ")} of ${transferId} are taken back, and are not there`);
  }
  const before = original.reversedPostings;
  const reversed = [...new Set([...before, ...postingIndexes])].sort((a, b) => a - b);
  if (reversed.length === before.length) return { kind: "done", answer: { kind: "none" }, event: undefined };
  original.reversedPostings = reversed;
  original.row = "changed";
  if (reversed.length < count) return { kind: "done", answer: { kind: "none" }, event: undefined };
  original.transfer = { ...original.transfer, state: "REVERSED" };
  const event = addEvent(batch, {
    bucket: bucketOfUuid(idToUuid(transferId)),
    aggregateId: transferId,
    aggregateVersion: 2n,
    type: "transfer_reversed",
    payload: encodeTransferReversed(original.transfer, original.eventNumber),
  });
  return { kind: "done", answer: { kind: "none" }, event };
}

/** On the credited shard: the original's shard knows. Harmless when it is done twice. */
export function closeRefunds({ transferId, postingIndexes }: CloseRefundsCommand, batch: Batch): Evaluation {
  for (const postingIndex of postingIndexes) {
    const refund = batch.refunds.get(postingName(idToUuid(transferId), postingIndex));
    if (refund === undefined || refund.state === "PARTIAL") {
      throw new Defect(`posting ${postingIndex} of ${transferId} is noted as taken back, and is not`);
    }
    if (refund.state === "NOTED") continue;
    refund.state = "NOTED";
    refund.row = "changed";
  }
  return { kind: "done", answer: { kind: "none" }, event: undefined };
}
