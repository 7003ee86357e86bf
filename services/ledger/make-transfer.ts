import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { shardOfBucket } from "#lib/shards.ts";
import { type Transfer, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import type { ParsedAccount, ParsedTransfer } from "#services/ledger/parse-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import { systemAccount } from "#services/ledger/system-accounts.ts";
import type {
  AccountName,
  PostedTransfer,
  PostingCommand,
  TransferCommand,
  TransferOutcome,
} from "#services/ledger/transfer.ts";

/** The way of one transfer, single or of a batch: decide where, resolve system accounts, queue, wait for the outcome. */

const METHOD = "create_transfer";

export interface TransferOrder {
  readonly parsed: ParsedTransfer;
  readonly caller: string;
  readonly idempotencyKey: string;
  /** The single calls of a caller, or one batch call. */
  readonly lane: LaneName;
  readonly timeoutMs: number;
}

/** A transfer that knows its shard and its accounts, and waits for nothing but its turn. */
export interface PreparedTransfer {
  readonly handle: ShardHandle;
  readonly command: TransferCommand;
  readonly lane: LaneName;
  readonly deadlineMs: number;
}

/** Resolves with what became of it, refusals included; rejects with a Refusal when nothing has happened. */
export async function makeTransfer(
  ctx: Context,
  order: TransferOrder,
): Promise<{ outcome: TransferOutcome; shard: number }> {
  return submitTransfer(await prepareTransfer(ctx, order));
}

/** Decides where, and resolves system accounts; opens those that do not exist yet. Rejects with a Refusal. */
export async function prepareTransfer(ctx: Context, order: TransferOrder): Promise<PreparedTransfer> {
  const deadlineMs = performance.now() + order.timeoutMs;
  const handle = decideShard(ctx, order.parsed);
  const postings = order.parsed.postings.every(isResolved)
    ? (order.parsed.postings as readonly PostingCommand[])
    : await resolvePostings(ctx, handle, order.parsed);
  for (const [index, { debit, credit }] of postings.entries()) {
    if (debit.uuid === credit.uuid) throw refusals.debitIsCredit(index, debit.id);
  }
  return { handle, command: toCommand(ctx, order, postings), lane: order.lane, deadlineMs };
}

/** Queues it at once: transfers of one lane are made in the order in which this was called. */
export async function submitTransfer(prepared: PreparedTransfer): Promise<{ outcome: TransferOutcome; shard: number }> {
  const { handle, command, lane, deadlineMs } = prepared;
  const outcome = await handle.transfers.submit(command, lane, deadlineMs);
  return { outcome, shard: handle.shard.number };
}

/** The shard of the accounts that are named by id. Throws CROSS_SHARD_NOT_YET when there are several. */
function decideShard(ctx: Context, parsed: ParsedTransfer): ShardHandle {
  let decided: number | undefined;
  for (const { debit, credit } of parsed.postings) {
    for (const account of [debit, credit]) {
      if (account.kind === "system") continue;
      const shard = shardOfBucket(ctx.map, account.bucket);
      decided ??= shard;
      if (shard !== decided) throw refusals.crossShardNotYet(namedAccounts(parsed));
    }
  }
  // The parser refuses a posting between two system accounts, so there is one.
  if (decided === undefined) throw new Error("a transfer without any account id was not refused");
  return ctx.shardOf(decided);
}

function namedAccounts(parsed: ParsedTransfer): string[] {
  const ids = parsed.postings.flatMap(({ debit, credit }) => [debit, credit]);
  return [...new Set(ids.flatMap((account) => (account.kind === "account" ? [account.id] : [])))];
}

function isResolved({ debit, credit }: { debit: ParsedAccount; credit: ParsedAccount }): boolean {
  return debit.kind === "account" && credit.kind === "account";
}

async function resolvePostings(ctx: Context, handle: ShardHandle, parsed: ParsedTransfer): Promise<PostingCommand[]> {
  const resolve = (account: ParsedAccount, currency: string): Promise<AccountName> | AccountName =>
    account.kind === "account" ? account : systemAccount(ctx, handle, account.reference, currency);
  return Promise.all(
    parsed.postings.map(async ({ debit, credit, amountMinorUnits, currency }) => ({
      debit: await resolve(debit, currency),
      credit: await resolve(credit, currency),
      amountMinorUnits,
      currency,
    })),
  );
}

function toCommand(ctx: Context, order: TransferOrder, postings: readonly PostingCommand[]): TransferCommand {
  const [first] = postings;
  if (first === undefined) throw new Error("a transfer without postings was not refused");
  const bucket = bucketOfUuid(first.debit.uuid);
  const { type, memo, metadata, effectiveTimeMs, fingerprint } = order.parsed;
  const transferId = ctx.newId("xfer", bucket);
  return {
    key: { bucket, caller: order.caller, method: METHOD, key: order.idempotencyKey, fingerprint },
    transferId,
    transferUuid: idToUuid(transferId),
    bucket,
    postings,
    type,
    memo,
    metadata,
    effectiveTimeMs,
  };
}

/** A posted transfer as the API answers it. */
export function toTransfer(transfer: PostedTransfer): Transfer {
  return {
    transferId: transfer.transferId,
    state: Transfer_State[transfer.state as keyof typeof Transfer_State],
    type: transfer.type,
    memo: transfer.memo,
    metadata: { ...transfer.metadata },
    postings: [...transfer.postings],
    balances: transfer.balances.map(({ accountId, postedMinorUnits, heldMinorUnits, version }) => ({
      accountId,
      postedMinorUnits,
      heldMinorUnits,
      availableMinorUnits: postedMinorUnits - heldMinorUnits,
      version,
    })),
    postTime: new Date(transfer.postTimeMs),
    effectiveTime: new Date(transfer.effectiveTimeMs),
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
    postings: command.postings.map(({ debit, credit, amountMinorUnits, currency }) => ({
      debitAccountId: debit.id,
      creditAccountId: credit.id,
      amountMinorUnits,
      currency,
    })),
    balances: [],
    postTime: undefined,
    effectiveTime: command.effectiveTimeMs === undefined ? undefined : new Date(command.effectiveTimeMs),
  };
}
