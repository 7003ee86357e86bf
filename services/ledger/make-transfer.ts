import type { Call } from "#lib/grpc-server.ts";
import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { encodePosition, type Position } from "#lib/position.ts";
import { Defect } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import { type Transfer, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountName, CommandOutcome } from "#services/ledger/command.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";
import {
  decideAndPost,
  type ElsewhereOfTransfer,
  isHere,
  NOTHING_ELSEWHERE,
  prepareElsewhere,
  type RemotePart,
  remoteParts,
  transitAccounts,
} from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import type { HoldCapture } from "#services/ledger/hold.ts";
import type { ParsedAccount, ParsedTransfer } from "#services/ledger/parse-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { Reversal } from "#services/ledger/reversal.ts";
import { systemAccount } from "#services/ledger/system-accounts.ts";
import type { LocalPosting, PostedTransfer, TransferCommand, TransferLinks } from "#services/ledger/transfer.ts";

/** The way of one transfer, single or of a batch: decide where, resolve system accounts, queue, wait for the outcome. */

/** Method of the keys of transfers, single or of a batch. */
export const CREATE_TRANSFER = "create_transfer";

export interface TransferOrder {
  readonly parsed: ParsedTransfer;
  readonly caller: string;
  /** Part of the key's scope, such as `create_transfer`. */
  readonly method: string;
  readonly idempotencyKey: string;
  /** The single calls of a caller, or one batch call. */
  readonly lane: LaneName;
  readonly timeoutMs: number;
  /** With a quote it is a conversion, and uses it. */
  readonly links?: TransferLinks;
  readonly capture?: HoldCapture;
  readonly reversal?: Reversal;
}

/** A posting whose accounts are known. */
export interface ResolvedPosting {
  readonly debit: AccountName;
  readonly credit: AccountName;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

/** A transfer that knows its shards and its accounts, and waits for nothing but its turn. */
export interface PreparedTransfer {
  /** Of the payer's shard. */
  readonly handle: ShardHandle;
  readonly command: TransferCommand;
  /** Legs on other shards; none for most. */
  readonly remotes: readonly RemotePart[];
  readonly lane: LaneName;
  readonly deadlineMs: number;
}

/** What became of a transfer, and what its parts on other shards say. */
export interface MadeTransfer {
  readonly outcome: CommandOutcome;
  readonly command: TransferCommand;
  readonly elsewhere: ElsewhereOfTransfer;
  /** Of the event on the payer's shard; undefined when nothing was made. */
  readonly position: Position | undefined;
}

/** Resolves with what became of it, refusals included; rejects with a Refusal when nothing has happened. */
export async function makeTransfer(ctx: Context, order: TransferOrder): Promise<MadeTransfer> {
  const prepared = await prepareTransfer(ctx, order);
  return submitTransfer(ctx, prepared, await prepareElsewhere(prepared));
}

/** Where a transfer is decided and written: where its first debit account is, or its group's. */
export interface Home {
  readonly handle: ShardHandle;
  readonly bucket: number;
}

/**
 * Decides where, and resolves system accounts; opens those that do not exist yet. Rejects with a Refusal. `home` is given
 * for the member of a group.
 */
export async function prepareTransfer(ctx: Context, order: TransferOrder, home?: Home): Promise<PreparedTransfer> {
  const deadlineMs = performance.now() + order.timeoutMs;
  const postings = await resolvePostings(ctx, order.parsed);
  for (const [index, { debit, credit }] of postings.entries()) {
    if (debit.uuid === credit.uuid) throw refusals.debitIsCredit(index, debit.id);
  }
  const { handle, bucket } = home ?? homeOf(ctx, postings);
  const command = await toCommand(ctx, order, postings, handle, bucket);
  const remotes = command.crossShard ? await remoteParts(ctx, handle, command, postings) : NO_REMOTES;
  return { handle, command, remotes, lane: order.lane, deadlineMs };
}

const NO_REMOTES: readonly RemotePart[] = [];

/** Where a transfer by itself is decided, or a group that begins with it. Rejects with a Refusal. */
export async function homeOfOrder(ctx: Context, { parsed }: TransferOrder): Promise<Home> {
  return homeOf(ctx, await resolvePostings(ctx, parsed));
}

function homeOf(ctx: Context, [first]: readonly ResolvedPosting[]): Home {
  if (first === undefined) throw new Error("a transfer without postings was not refused");
  const bucket = bucketOfUuid(first.debit.uuid);
  return { handle: ctx.shardOf(shardOfBucket(ctx.map, bucket)), bucket };
}

/**
 * Queues it at once: transfers of one lane are made in the order in which this was called. With legs on other shards,
 * `prepareElsewhere` comes before it, and its answer is given here.
 */
export async function submitTransfer(
  ctx: Context,
  prepared: PreparedTransfer,
  refusedElsewhere: TransferCommand["refusedElsewhere"],
): Promise<MadeTransfer> {
  const { handle, command, lane, deadlineMs } = prepared;
  if (command.crossShard) return decideAndPost(ctx, prepared, refusedElsewhere);
  const outcome = await handle.commands.submit(command, lane, deadlineMs);
  return { outcome, command, elsewhere: NOTHING_ELSEWHERE, position: positionOf(handle, outcome) };
}

/** Where the outcome's event is. */
export function positionOf(handle: ShardHandle, outcome: CommandOutcome): Position | undefined {
  if (outcome.kind !== "done" || outcome.eventNumber === undefined) return undefined;
  return { shard: handle.shard.number, number: outcome.eventNumber };
}

/** `system:NAME` stands for the account of that name on the shard of the posting's other account. */
async function resolvePostings(ctx: Context, parsed: ParsedTransfer): Promise<readonly ResolvedPosting[]> {
  if (parsed.postings.every(isResolved)) return parsed.postings as readonly ResolvedPosting[];
  const resolve = (account: ParsedAccount, other: ParsedAccount, currency: string) => {
    if (account.kind === "account") return account;
    // The parser refuses a posting between two system accounts.
    if (other.kind !== "account") throw new Error("a posting without any account id was not refused");
    return systemAccount(ctx, ctx.shardOf(shardOfBucket(ctx.map, other.bucket)), account.reference, currency);
  };
  return Promise.all(
    parsed.postings.map(async ({ debit, credit, amountMinorUnits, currency }) => ({
      debit: await resolve(debit, credit, currency),
      credit: await resolve(credit, debit, currency),
      amountMinorUnits,
      currency,
    })),
  );
}

function isResolved({ debit, credit }: { debit: ParsedAccount; credit: ParsedAccount }): boolean {
  return debit.kind === "account" && credit.kind === "account";
}

async function toCommand(
  ctx: Context,
  order: TransferOrder,
  postings: readonly ResolvedPosting[],
  handle: ShardHandle,
  bucket: number,
): Promise<TransferCommand> {
  const { type, memo, metadata, effectiveTimeMs, fingerprint } = order.parsed;
  const transferId = ctx.newId("xfer", bucket);
  const transferUuid = idToUuid(transferId);
  const key = commandKey({
    bucket,
    caller: order.caller,
    method: order.method,
    key: order.idempotencyKey,
    fingerprint,
    resourceUuid: transferUuid,
    makes: "xfer",
  });
  const local = await localPostings(ctx, handle, postings);
  const [first] = postings as readonly [ResolvedPosting];
  const quoteId = order.links?.quoteId;
  const quote =
    quoteId === undefined
      ? undefined
      : {
          claim: { quoteId, transferId, caller: order.caller, debitAccountId: first.debit.id },
          isHere: ctx.shardOfId(quoteId) === handle,
        };
  return {
    kind: "transfer",
    key,
    name: key.text,
    // The member of a group may have nothing here.
    weight: Math.max(local.length, 1),
    accounts: local.flatMap(({ debit, credit }) => [debit, credit]),
    transferId,
    transferUuid,
    bucket,
    postings: postings.map(({ debit, credit, amountMinorUnits, currency }) => ({
      debitAccountId: debit.id,
      creditAccountId: credit.id,
      amountMinorUnits,
      currency,
    })),
    local,
    type,
    memo,
    metadata,
    effectiveTimeMs,
    links: order.links,
    capture: order.capture,
    reversal: order.reversal,
    quote,
    crossShard:
      quote?.isHere === false ||
      !postings.every(({ debit, credit }) => isHere(ctx, handle, debit) && isHere(ctx, handle, credit)),
    refusedElsewhere: undefined,
  };
}

/** The postings that have a side on the shard; the other side may be transit. */
async function localPostings(
  ctx: Context,
  handle: ShardHandle,
  postings: readonly ResolvedPosting[],
): Promise<LocalPosting[]> {
  const halves = postings.filter(({ debit, credit }) => isHere(ctx, handle, debit) !== isHere(ctx, handle, credit));
  const transitOf = await transitAccounts(
    ctx,
    handle,
    halves.map(({ currency }) => currency),
  );
  return postings.flatMap(({ debit, credit, amountMinorUnits, currency }, index): LocalPosting[] => {
    const [debitIsHere, creditIsHere] = [isHere(ctx, handle, debit), isHere(ctx, handle, credit)];
    if (!debitIsHere && !creditIsHere) return [];
    const transit = transitOf.get(currency) as AccountName;
    return [
      {
        index,
        debit: debitIsHere ? debit : transit,
        credit: creditIsHere ? credit : transit,
        amountMinorUnits,
        currency,
        debitCounterparty: credit,
        creditCounterparty: debit,
      },
    ];
  });
}

/** Answers a call that made one transfer: headers and message. Throws the refusal. */
export function answerTransfer({ outcome, command, elsewhere, position }: MadeTransfer, call: Call): Transfer {
  switch (outcome.kind) {
    case "done":
      if (outcome.answer.kind !== "transfer") throw new Defect(`a transfer was answered with ${outcome.answer.kind}`);
      if (outcome.replayed) call.markReplayed();
      if (position !== undefined) call.setPosition(encodePosition([position, ...elsewhere.positions]));
      return toTransfer(outcome.answer.transfer, elsewhere);
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      return toProcessingTransfer(command);
    case "failed":
      throw outcome.error;
  }
}

/** A posted transfer as the API answers it. */
export function toTransfer(transfer: PostedTransfer, elsewhere: ElsewhereOfTransfer): Transfer {
  return {
    transferId: transfer.transferId,
    state: Transfer_State[transfer.state as keyof typeof Transfer_State],
    type: transfer.type,
    memo: transfer.memo,
    metadata: { ...transfer.metadata },
    postings: [...transfer.postings],
    balances: [...transfer.balances, ...elsewhere.balances].map(
      ({ accountId, postedMinorUnits, heldMinorUnits, version }) => ({
        accountId,
        postedMinorUnits,
        heldMinorUnits,
        availableMinorUnits: postedMinorUnits - heldMinorUnits,
        version,
      }),
    ),
    postTime: new Date(transfer.postTimeMs),
    effectiveTime: new Date(transfer.effectiveTimeMs),
    pendingAccountIds: [...elsewhere.pendingAccountIds],
    holdId: transfer.links?.holdId ?? "",
    reversesTransferId: transfer.links?.reversesTransferId ?? "",
    reversesPostingIndexes: [...(transfer.links?.reversesPostingIndexes ?? [])],
    quoteId: transfer.links?.quoteId ?? "",
  };
}

/** The answer when the outcome is not known in time: the transfer to ask for, without balances. */
export function toProcessingTransfer(command: TransferCommand): Transfer {
  return {
    transferId: command.transferId,
    state: Transfer_State.PROCESSING,
    type: command.type,
    memo: command.memo,
    metadata: { ...command.metadata },
    postings: [...command.postings],
    balances: [],
    postTime: undefined,
    effectiveTime: undefined,
    pendingAccountIds: [],
    holdId: command.links?.holdId ?? "",
    reversesTransferId: command.links?.reversesTransferId ?? "",
    reversesPostingIndexes: [...(command.links?.reversesPostingIndexes ?? [])],
    quoteId: command.links?.quoteId ?? "",
  };
}
