import type { Call } from "#lib/grpc-server.ts";
import { internalError, refusalToStatus } from "#lib/grpc-status.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { Defect, Refusal } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type {
  ReverseTransferRequest,
  ReverseTransferResponse,
  ReverseTransferResponse_Result,
  Transfer,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountName } from "#services/ledger/command.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { prepareElsewhere } from "#services/ledger/cross-shard.ts";
import { readTransfer } from "#services/ledger/get-transfer.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import {
  type MadeTransfer,
  positionOf,
  prepareTransfer,
  submitTransfer,
  toProcessingTransfer,
  toTransfer,
} from "#services/ledger/make-transfer.ts";
import { closeRefunds, noteReversed, ownShard, readExhausted } from "#services/ledger/note-reversed.ts";
import { type AskedPosting, type ParsedReversal, parseReversal } from "#services/ledger/parse-reversal.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { ReversalPart } from "#services/ledger/reversal.ts";
import type { PostedTransfer } from "#services/ledger/transfer.ts";

const METHOD = "reverse_transfer";
/** Telling the original's shard is worth so much waiting; after that recovery does it. */
const NOTE_TIMEOUT_MS = 1_000;

/** Docs: docs/decisions/0016-reversal.md. */
export async function reverseTransfer(
  ctx: Context,
  request: ReverseTransferRequest,
  call: Call,
): Promise<ReverseTransferResponse> {
  const deadlineMs = performance.now() + COMMAND_TIMEOUT_MS;
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const parsed = parseReversal(request);
  const original = await readTransfer(ctx, parsed.transferId, { uuid: parsed.transferUuid, bucket: parsed.bucket });
  const groups = groupByBucket(original, parsed);
  const order: ReversalOrder = { parsed, original, caller: call.caller, idempotencyKey, deadlineMs };
  const results = await Promise.all(groups.map((group) => reverseGroup(ctx, order, group)));
  const noted = await noteExhausted(ctx, order, groups, results);
  return answer(parsed, results, noted, call);
}

/** One call, as all of its groups need it. */
interface ReversalOrder {
  readonly parsed: ParsedReversal;
  readonly original: PostedTransfer;
  readonly caller: string;
  readonly idempotencyKey: string;
  readonly deadlineMs: number;
}

/** The postings that credited accounts of one bucket: they are taken back by one transfer, whose payer's bucket it is. */
interface Group {
  readonly bucket: number;
  readonly postings: readonly GroupPosting[];
}

interface GroupPosting extends ReversalPart {
  /** The original's credit account, and its debit account. */
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly currency: string;
  /** Undefined: all that is left. */
  readonly askedMinorUnits: bigint | undefined;
}

/** What became of one group. */
type Result =
  | {
      readonly kind: "answered";
      readonly transfer: Transfer;
      readonly made: boolean;
      readonly replayed: boolean;
      readonly positions: readonly Position[];
    }
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly replayed: boolean };

/** Throws POSTING_NOT_FOUND when the request names one that the original has not. */
function groupByBucket(original: PostedTransfer, parsed: ParsedReversal): Group[] {
  const asked: readonly Pick<AskedPosting, "index">[] =
    parsed.postings ?? original.postings.map((_, index) => ({ index }));
  const amountOf = new Map(parsed.postings?.map(({ index, amountMinorUnits }) => [index, amountMinorUnits]));
  for (const { index, field } of parsed.postings ?? []) {
    const count = original.postings.length;
    if (index >= count) throw refusals.postingNotFound(original.transferId, index, count, field);
  }
  const postings = asked.map(({ index }): GroupPosting => {
    const posting = original.postings[index];
    if (posting === undefined) throw new Defect(`${original.transferId} has no posting ${index}`);
    return {
      postingIndex: index,
      creditedMinorUnits: posting.amountMinorUnits,
      debit: nameOf(posting.creditAccountId),
      credit: nameOf(posting.debitAccountId),
      currency: posting.currency,
      askedMinorUnits: amountOf.get(index),
    };
  });
  const groups = Map.groupBy(postings, ({ debit }) => bucketOfUuid(debit.uuid));
  return [...groups].map(([bucket, ofBucket]) => ({ bucket, postings: ofBucket }));
}

function nameOf(accountId: string): AccountName {
  return { id: accountId, uuid: idToUuid(accountId) };
}

async function reverseGroup(ctx: Context, order: ReversalOrder, group: Group): Promise<Result> {
  try {
    return toResult(await submitGroup(ctx, order, group));
  } catch (error) {
    if (!(error instanceof Refusal)) ctx.log.error({ err: error }, "a reversal failed");
    return { kind: "refused", refusal: error instanceof Refusal ? error : internalError, replayed: false };
  }
}

async function submitGroup(ctx: Context, order: ReversalOrder, group: Group): Promise<MadeTransfer> {
  const { parsed, original, caller, idempotencyKey, deadlineMs } = order;
  const everythingLeft = parsed.postings === undefined;
  const asked = everythingLeft
    ? await withWhatIsLeft(ctx, parsed.transferUuid, group)
    : group.postings.map((posting) => ({ ...posting, amountMinorUnits: posting.askedMinorUnits ?? 0n }));
  const some = asked.filter(({ amountMinorUnits }) => amountMinorUnits > 0n);
  // Nothing is left and nothing ever will be; only the key may have another answer.
  const refusal =
    refuseOriginal(original) ?? (some.length === 0 ? refusals.alreadyReversed(original.transferId) : undefined);
  const postings = some.length === 0 ? asked : some;
  const { type, memo, metadata, fingerprint } = parsed;
  const prepared = await prepareTransfer(ctx, {
    parsed: {
      postings: postings.map(({ debit, credit, amountMinorUnits, currency }) => ({
        debit: { kind: "account", ...debit, bucket: group.bucket },
        credit: { kind: "account", ...credit, bucket: bucketOfUuid(credit.uuid) },
        amountMinorUnits,
        currency,
      })),
      type,
      memo,
      metadata,
      effectiveTimeMs: undefined,
      fingerprint,
    },
    caller,
    method: METHOD,
    idempotencyKey,
    lane: laneOf(order),
    timeoutMs: deadlineMs - performance.now(),
    links: {
      reversesTransferId: original.transferId,
      reversesPostingIndexes: postings.map(({ postingIndex }) => postingIndex),
    },
    reversal: {
      originalId: original.transferId,
      originalUuid: parsed.transferUuid,
      parts: postings.map(({ postingIndex, creditedMinorUnits }) => ({ postingIndex, creditedMinorUnits })),
      everythingLeft,
      cameFromElsewhere: shardOfBucket(ctx.map, parsed.bucket) !== shardOfBucket(ctx.map, group.bucket),
    },
  });
  if (refusal === undefined) return submitTransfer(ctx, prepared, await prepareElsewhere(prepared));
  const refusedElsewhere = { refusal, remembered: true };
  const command = { ...prepared.command, refusedElsewhere };
  return submitTransfer(ctx, { ...prepared, command, remotes: [] }, refusedElsewhere);
}

/** Transfers that are never taken back, whatever is left of them. */
function refuseOriginal({ transferId, links }: PostedTransfer): Refusal | undefined {
  const { reversesTransferId, quoteId } = links ?? {};
  if (reversesTransferId !== undefined) return refusals.reversalOfReversal(transferId, reversesTransferId);
  if (quoteId !== undefined) return refusals.conversionNotReversible(transferId, quoteId);
  return undefined;
}

/**
 * What is left of each posting a moment before the decision. It never rises: zero is final, and more than zero is decided
 * again under the lock.
 */
async function withWhatIsLeft(ctx: Context, transferUuid: string, { bucket, postings }: Group) {
  const rows = await readShard<[number, string]>(ctx, bucket, {
    name: "read-refunded-amounts",
    text: "select posting_index, refunded_minor_units from ledger.refunded_postings where transfer_id = $1 and bucket = $2",
    values: [transferUuid, bucket],
  });
  const refunded = new Map(rows.map(([postingIndex, amount]) => [postingIndex, BigInt(amount)]));
  return postings.map((posting) => ({
    ...posting,
    amountMinorUnits: posting.creditedMinorUnits - (refunded.get(posting.postingIndex) ?? 0n),
  }));
}

function laneOf({ caller }: ReversalOrder): LaneName {
  return { name: caller, ordered: false };
}

function toResult({ outcome, command, elsewhere, position }: MadeTransfer): Result {
  switch (outcome.kind) {
    case "done":
      if (outcome.answer.kind !== "transfer") throw new Defect(`a reversal was answered with ${outcome.answer.kind}`);
      return {
        kind: "answered",
        transfer: toTransfer(outcome.answer.transfer, elsewhere),
        made: true,
        replayed: outcome.replayed,
        positions: [...(position === undefined ? [] : [position]), ...elsewhere.positions],
      };
    case "refused":
      return { kind: "refused", refusal: outcome.refusal, replayed: outcome.replayed };
    case "unknown":
      return {
        kind: "answered",
        transfer: toProcessingTransfer(command),
        made: false,
        replayed: false,
        positions: [],
      };
    case "failed":
      throw outcome.error;
  }
}

/**
 * Tells the original's shard which postings are wholly taken back now. Answers the position of the event that says so, if
 * there is one; what can not be done in time is left to recovery.
 */
async function noteExhausted(
  ctx: Context,
  order: ReversalOrder,
  groups: readonly Group[],
  results: readonly Result[],
): Promise<Position | undefined> {
  const { transferId } = order.parsed;
  const handles = new Set<ShardHandle>();
  for (const [index, { bucket }] of groups.entries()) {
    const result = results[index];
    if (result?.kind === "answered" && result.made) handles.add(ctx.shardOf(shardOfBucket(ctx.map, bucket)));
  }
  const exhausted = await Promise.all(
    [...handles].map(async (handle) => ({ handle, indexes: await readExhausted(handle, transferId).catch(() => []) })),
  );
  const indexes = exhausted.flatMap((part) => part.indexes);
  if (indexes.length === 0) return undefined;
  const untilMs = Math.min(order.deadlineMs, performance.now() + NOTE_TIMEOUT_MS);
  const outcome = await noteReversed(ctx, transferId, indexes, laneOf(order), untilMs);
  if (outcome.kind !== "done") return undefined;
  for (const part of exhausted) {
    if (part.indexes.length === 0) continue;
    const laterMs = performance.now() + COMMAND_TIMEOUT_MS;
    void closeRefunds(part.handle, transferId, part.indexes, laneOf(order), laterMs);
  }
  return positionOf(ownShard(ctx, transferId), outcome);
}

/** Headers and message. Throws when nothing at all was made: then the call is refused with the reason of a group. */
function answer(
  { postings }: ParsedReversal,
  results: readonly Result[],
  noted: Position | undefined,
  call: Call,
): ReverseTransferResponse {
  // Asked for what is left, a group of which nothing is left has no part in the answer, unless there is no other.
  const others = results.filter((result) => result.kind === "answered" || result.refusal.reason !== "ALREADY_REVERSED");
  const shown = postings === undefined && others.length > 0 ? others : results;
  if (shown.every(({ replayed }) => replayed)) call.markReplayed();
  const refused = shown.flatMap((result) => (result.kind === "refused" ? [result.refusal] : []));
  // What may be tried again comes first: it says that the call is not at its end.
  const [first] = refused.toSorted(
    (a, b) => Number(b.retryAfterMs !== undefined) - Number(a.retryAfterMs !== undefined),
  );
  if (first !== undefined && refused.length === shown.length) throw first;
  const positions = shown.flatMap((result) => (result.kind === "answered" ? result.positions : []));
  if (noted !== undefined) positions.push(noted);
  if (positions.length > 0) call.setPosition(encodePosition(positions));
  return { reversals: shown.map(toMessage) };
}

function toMessage(result: Result): ReverseTransferResponse_Result {
  const { replayed } = result;
  return result.kind === "answered"
    ? { outcome: { $case: "transfer", value: result.transfer }, replayed }
    : { outcome: { $case: "error", value: refusalToStatus(result.refusal) }, replayed };
}
