import assert from "node:assert/strict";
import { parseId } from "#lib/ids.ts";
import type { ReverseTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  answerOf,
  assertAnswered,
  assertRefused,
  comparable,
  enter,
  type KnownLeg,
  type Model,
  type ModelAccount,
  type ModelTransfer,
  NO_LINKS,
  type Observed,
  type Remembered,
  reasons,
  refusalsOfTransfer,
  toText,
} from "#tests/model.ts";

/** Taking transfers back, in the model: one transfer for each credited bucket, each under a key of its own. */

/** What ReverseTransfer came to: refused as a whole, or with a result for each bucket. */
export type ObservedReversal =
  | Extract<Observed, { kind: "refused" }>
  | { readonly kind: "results"; readonly results: readonly Observed[]; readonly replayed: boolean | undefined };

/** The postings of the original that credited accounts of one bucket, with what is to be taken back of each. */
interface Group {
  readonly key: string;
  readonly shard: number;
  readonly indexes: number[];
  readonly amounts: bigint[];
}

/** A group, and why it has to be refused; a made one when its key is known. */
interface Expected {
  readonly group: Group;
  readonly known: Remembered | undefined;
  readonly body: string;
  readonly refused: readonly string[] | undefined;
  readonly replayed: boolean;
}

/** Holds the answer to a reversal against the contract, and changes the model. Throws an AssertionError. */
export function judgeReversal(model: Model, request: ReverseTransferRequest, observed: ObservedReversal): void {
  const { transferId, postings, idempotencyKey } = request;
  const original = model.transfers.get(transferId);
  const isMalformed =
    parseId(transferId, "xfer") === undefined ||
    new Set(postings.map(({ index }) => index)).size < postings.length ||
    postings.some(({ index, amountMinorUnits }) => index < 0 || amountMinorUnits <= 0n);
  if (idempotencyKey === "") return void refusedAs(observed, ["IDEMPOTENCY_KEY_REQUIRED"], false);
  if (isMalformed) return void refusedAs(observed, ["MALFORMED_REQUEST"], false);
  if (original === undefined) return void refusedAs(observed, ["TRANSFER_NOT_FOUND"], false);
  if (postings.some(({ index }) => index >= original.legs.length)) {
    return void refusedAs(observed, ["POSTING_NOT_FOUND"], false);
  }

  const expected = groupsOf(original, request).map((group) => expect(model, original, request, group));
  // Asked for what is left, a bucket of which nothing is left has no part in the answer, unless there is no other.
  const others = expected.filter(({ refused }) => refused?.join() !== "ALREADY_REVERSED");
  const shown = postings.length === 0 && others.length > 0 ? others : expected;
  const allReplayed = shown.every(({ replayed }) => replayed);
  if (shown.every(({ refused }) => refused !== undefined)) {
    refusedAs(observed, reasons(shown.flatMap(({ refused }) => refused ?? [])), allReplayed);
  } else {
    assert.ok(observed.kind === "results", "it was refused, and should be done at least in part");
    assert.equal(observed.replayed ?? allReplayed, allReplayed, "idempotent-replayed");
    assert.equal(observed.results.length, shown.length, "one result for each bucket");
    for (const [index, { one, result }] of inOrder(original, shown, observed.results).entries()) {
      judgeResult(model, original, request, one, result, index);
    }
  }
  for (const { group, known, body, refused } of expected) {
    // What was told as a result is noted already.
    if (refused === undefined || known !== undefined || model.keys.has(group.key)) continue;
    model.keys.set(group.key, { body, outcome: { refused } });
  }
}

function refusedAs(observed: ObservedReversal, why: readonly string[], replayed: boolean): void {
  assert.ok(observed.kind === "refused", `it was done, and should be refused with ${why.join(" or ")}`);
  assertRefused(observed, why, replayed);
}

/** By the bucket of the account that was credited. Without postings: everything that is left. */
function groupsOf(original: ModelTransfer, { postings, idempotencyKey }: ReverseTransferRequest): Group[] {
  const left = original.legs.map(({ amountMinorUnits }, index) => amountMinorUnits - refundedOf(original, index));
  const asked =
    postings.length === 0
      ? left.map((amountMinorUnits, index) => ({ index, amountMinorUnits }))
      : // Whatever their order in the request, they are made in that of the original.
        [...postings].sort((a, b) => a.index - b.index);
  const groups = new Map<number, Group>();
  for (const { index, amountMinorUnits } of asked) {
    const { bucket, shard } = (original.legs[index] as KnownLeg).credit;
    const key = ["reverseTransfer", bucket, idempotencyKey].join(" ");
    const group = groups.get(bucket) ?? { key, shard, indexes: [], amounts: [] };
    groups.set(bucket, group);
    group.indexes.push(index);
    group.amounts.push(amountMinorUnits);
  }
  return [...groups.values()];
}

function refundedOf({ refundedMinorUnits }: ModelTransfer, index: number): bigint {
  return refundedMinorUnits[index] ?? 0n;
}

function expect(model: Model, original: ModelTransfer, request: ReverseTransferRequest, group: Group): Expected {
  const body = toText({ ...request, idempotencyKey: "" });
  const known = model.keys.get(group.key);
  if (known !== undefined && known.body !== body) {
    return { group, known, body, refused: ["IDEMPOTENCY_KEY_REUSED"], replayed: false };
  }
  if (known !== undefined) {
    return {
      group,
      known,
      body,
      refused: "refused" in known.outcome ? known.outcome.refused : undefined,
      replayed: true,
    };
  }
  const isEverything = request.postings.length === 0;
  const isNothingLeft = isEverything && group.amounts.every((amount) => amount === 0n);
  const exceeds = group.indexes.some((index, position) => {
    const credited = (original.legs[index] as KnownLeg).amountMinorUnits;
    return (group.amounts[position] ?? 0n) > credited - refundedOf(original, index);
  });
  const why = isNothingLeft
    ? ["ALREADY_REVERSED"]
    : reasons([
        original.links.reversesTransferId !== "" && "REVERSAL_OF_REVERSAL",
        original.links.quoteId !== "" && "CONVERSION_NOT_REVERSIBLE",
        exceeds && "REFUND_EXCEEDS_REMAINDER",
        ...refusalsOfTransfer(legsOf(original, group), group.shard),
      ]);
  return { group, known, body, refused: why.length === 0 ? undefined : why, replayed: false };
}

/** Back from the credited account; of what is wholly taken back, nothing. */
function legsOf(original: ModelTransfer, { indexes, amounts }: Group): KnownLeg[] {
  return indexes.flatMap((index, position) => {
    const { debit, credit, currency } = original.legs[index] as KnownLeg;
    const amountMinorUnits = amounts[position] ?? 0n;
    return amountMinorUnits === 0n ? [] : [{ debit: credit, credit: debit, amountMinorUnits, currency }];
  });
}

/** Buckets are refunded side by side: the order in which they came to an account that they share is in its versions. */
function inOrder(original: ModelTransfer, shown: readonly Expected[], results: readonly Observed[]) {
  const shared = sharedPayers(original);
  const orderOf = (result: Observed) => {
    if (result.kind === "refused") return 0;
    const balance = (result.answer as Transfer).balances.find(({ accountId }) =>
      shared.some(({ id }) => id === accountId),
    );
    return Number(balance?.version ?? 0n);
  };
  return shown
    .map((one, index) => ({ one, result: results[index] as Observed }))
    .sort((a, b) => orderOf(a.result) - orderOf(b.result));
}

/** Accounts that several buckets pay back to. */
export function sharedPayers({ legs }: ModelTransfer): ModelAccount[] {
  const payers = new Set(legs.map(({ debit }) => debit));
  return [...payers].filter(
    (payer) => new Set(legs.filter(({ debit }) => debit === payer).map(({ credit }) => credit.bucket)).size > 1,
  );
}

function judgeResult(
  model: Model,
  original: ModelTransfer,
  request: ReverseTransferRequest,
  { group, known, body, refused, replayed }: Expected,
  result: Observed,
  index: number,
): void {
  if (refused !== undefined) {
    const { reason } = assertRefused(result, refused, replayed);
    if (known === undefined) model.keys.set(group.key, { body, outcome: { refused: [reason] } });
    return;
  }
  const answer = assertAnswered(result, replayed) as Transfer;
  if (known !== undefined && "made" in known.outcome) {
    assert.deepEqual(comparable(answer), answerOf(known.outcome.made, true), `result ${index}`);
    return;
  }
  const { memo, metadata, transferId } = request;
  const taken = group.indexes.filter((_, position) => (group.amounts[position] ?? 0n) > 0n);
  const links = { ...NO_LINKS, reversesTransferId: transferId, reversesPostingIndexes: taken };
  const texts = { type: request.type || "reversal", memo, metadata, effectiveTime: undefined, links };
  const made = { kind: "transfer", transfer: enter(model, legsOf(original, group), texts, answer) } as const;
  for (const [position, posting] of group.indexes.entries()) {
    original.refundedMinorUnits[posting] = refundedOf(original, posting) + (group.amounts[position] ?? 0n);
  }
  model.keys.set(group.key, { body, outcome: { made } });
  assert.deepEqual(comparable(answer), answerOf(made, false), `result ${index}`);
}
