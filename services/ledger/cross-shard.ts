import { bucketOfUuid } from "#lib/ids.ts";
import type { Position } from "#lib/position.ts";
import { Refusal } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type {
  AccountName,
  CommandOutcome,
  PostLegsCommand,
  PrepareLegsCommand,
  ReleaseLegsCommand,
} from "#services/ledger/command.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import type { MadeTransfer, PreparedTransfer, ResolvedPosting } from "#services/ledger/make-transfer.ts";
import type { QuoteClaim } from "#services/ledger/quote.ts";
import { readRemoteLegs } from "#services/ledger/read-remote-legs.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { LockedLeg, RemoteLeg } from "#services/ledger/remote-leg.ts";
import { systemAccount } from "#services/ledger/system-accounts.ts";
import {
  type BalanceAfter,
  type PostedTransfer,
  TRANSIT_REFERENCE,
  type TransferCommand,
} from "#services/ledger/transfer.ts";

/**
 * A transfer whose accounts are on several shards (design.md; docs/decisions/0010-cross-shard.md):
 *
 *   prepare   on every other shard: what could refuse its legs is checked, and room is kept; a conversion's quote is reserved
 *   decide    on the payer's shard: funds and rules; debits, transit and the decision in one commit
 *   post      on every other shard: transit and credits; can not be refused any more
 *   close     on the payer's shard: nothing is left to do
 *
 * Killed or unanswered between any two of them, recover.ts goes on from what the shards have written: nothing that matters
 * is in memory. Every step may be done twice.
 */

/** No shard that answers in this time: nothing has moved, and the caller is told so. */
const PREPARE_TIMEOUT_MS = 1_500;
/** Steps that the caller does not wait for. */
const PROTOCOL_LANE: LaneName = { name: "ledger cross-shard", ordered: false };

/** What a transfer has on one shard that is not the payer's. */
export interface RemotePart {
  readonly handle: ShardHandle;
  /** None when only the quote is there. */
  readonly legs: readonly RemoteLeg[];
  /** Of a conversion whose quote is there. */
  readonly quote: QuoteClaim | undefined;
  /** This shard's transit account of each currency that needs one. */
  readonly transitOf: ReadonlyMap<string, AccountName> | undefined;
}

/** What the other shards say of a transfer that is decided. */
export interface ElsewhereOfTransfer {
  /** Of the accounts whose legs are posted. */
  readonly balances: readonly BalanceAfter[];
  /** Accounts whose legs are still on the way, as far as is known. */
  readonly pendingAccountIds: readonly string[];
  readonly positions: readonly Position[];
}

export const NOTHING_ELSEWHERE: ElsewhereOfTransfer = { balances: [], pendingAccountIds: [], positions: [] };

export function isHere(ctx: Context, handle: ShardHandle, { uuid }: AccountName): boolean {
  return shardOfBucket(ctx.map, bucketOfUuid(uuid)) === handle.shard.number;
}

/** The shard's transit account of each of the currencies; opened on first use. */
export async function transitAccounts(
  ctx: Context,
  handle: ShardHandle,
  currencies: readonly string[],
): Promise<Map<string, AccountName>> {
  const accounts = new Map<string, AccountName>();
  for (const currency of new Set(currencies)) {
    accounts.set(currency, await systemAccount(ctx, handle, TRANSIT_REFERENCE, currency));
  }
  return accounts;
}

/** Splits the postings of a transfer into the legs of every shard but the payer's; one of these may have its quote. */
export async function remoteParts(
  ctx: Context,
  payer: ShardHandle,
  { transferId, transferUuid, type, memo, effectiveTimeMs, quote }: TransferCommand,
  postings: readonly ResolvedPosting[],
): Promise<RemotePart[]> {
  const legsOf = new Map<ShardHandle, RemoteLeg[]>();
  const quoteElsewhere = quote?.isHere === false ? quote.claim : undefined;
  const quoteAt = quoteElsewhere === undefined ? undefined : ctx.shardOfId(quoteElsewhere.quoteId);
  if (quoteAt !== undefined) legsOf.set(quoteAt, []);
  for (const [postingIndex, { debit, credit, amountMinorUnits, currency }] of postings.entries()) {
    const shards = new Set([debit, credit].map(({ uuid }) => shardOfBucket(ctx.map, bucketOfUuid(uuid))));
    for (const handle of [...shards].map(ctx.shardOf)) {
      if (handle === payer) continue;
      const [debitIsHere, creditIsHere] = [isHere(ctx, handle, debit), isHere(ctx, handle, credit)];
      const leg: RemoteLeg = {
        transferId,
        transferUuid,
        postingIndex,
        bucket: bucketOfUuid(creditIsHere ? credit.uuid : debit.uuid),
        debit,
        credit,
        debitIsHere,
        creditIsHere,
        amountMinorUnits,
        currency,
        type,
        memo,
        effectiveTimeMs,
      };
      const legs = legsOf.get(handle);
      if (legs === undefined) legsOf.set(handle, [leg]);
      else legs.push(leg);
    }
  }
  return Promise.all(
    [...legsOf].map(async ([handle, legs]) => ({
      handle,
      legs,
      quote: handle === quoteAt ? quoteElsewhere : undefined,
      // A shard that is away refuses to prepare its legs; here it must not hide an answer that the key may have already.
      transitOf: await transitOfLegs(ctx, handle, legs).catch(() => undefined),
    })),
  );
}

/** The transit accounts that legs on a shard need. */
export function transitOfLegs(
  ctx: Context,
  handle: ShardHandle,
  legs: readonly RemoteLeg[],
): Promise<Map<string, AccountName>> {
  const halves = legs.filter(({ debitIsHere, creditIsHere }) => debitIsHere !== creditIsHere);
  return transitAccounts(
    ctx,
    handle,
    halves.map(({ currency }) => currency),
  );
}

/** Prepares what is on every other shard at once. Answers why not, when one of them refused; undefined when all are ready. */
export async function prepareElsewhere({
  command,
  remotes,
  lane,
  deadlineMs,
}: PreparedTransfer): Promise<TransferCommand["refusedElsewhere"]> {
  if (remotes.length === 0) return undefined;
  const untilMs = Math.min(deadlineMs, performance.now() + PREPARE_TIMEOUT_MS);
  const answers = await Promise.all(
    remotes.map(async (part) => {
      const { handle } = part;
      const prepare = prepareCommand(command.transferId, part);
      if (prepare === undefined) return refusals.shardUnavailable(handle.shard.number);
      const outcome = await submit(handle, prepare, lane, untilMs);
      return refusalOf(handle, outcome);
    }),
  );
  const refusal = answers.find((answer) => answer !== undefined);
  // A business refusal is remembered on the payer's shard, under the transfer's key.
  return refusal === undefined ? undefined : { refusal, remembered: refusal.status === "FAILED_PRECONDITION" };
}

function refusalOf(handle: ShardHandle, outcome: CommandOutcome): Refusal | undefined {
  switch (outcome.kind) {
    case "done":
      return undefined;
    case "refused":
      return outcome.refusal;
    case "unknown":
      return refusals.shardTooSlow(handle.shard.number);
    case "failed":
      return refusals.shardUnavailable(handle.shard.number);
  }
}

/** Decides on the payer's shard, and then posts what is elsewhere, or gives its room back. */
export async function decideAndPost(
  ctx: Context,
  prepared: PreparedTransfer,
  refusedElsewhere: TransferCommand["refusedElsewhere"],
): Promise<MadeTransfer> {
  const { handle, remotes, lane, deadlineMs } = prepared;
  const command = { ...prepared.command, refusedElsewhere };
  let outcome: CommandOutcome;
  try {
    outcome = await handle.commands.submit(command, lane, deadlineMs);
  } catch (error) {
    release(command.transferId, remotes);
    throw error;
  }
  return postDecided(ctx, prepared, outcome);
}

/** Posts what is elsewhere of a transfer that was made, or gives its room back. */
export async function postDecided(
  ctx: Context,
  { handle, command, remotes, lane, deadlineMs }: PreparedTransfer,
  outcome: CommandOutcome,
): Promise<MadeTransfer> {
  const position = outcome.kind === "done" ? eventPosition(handle, outcome.eventNumber) : undefined;
  const made = (elsewhere: ElsewhereOfTransfer) => ({ outcome, command, elsewhere, position });
  // What became of it is found out by recovery, which asks the shard.
  if (outcome.kind === "unknown") return made(NOTHING_ELSEWHERE);
  if (outcome.kind !== "done" || outcome.answer.kind !== "transfer") {
    release(command.transferId, remotes);
    return made(NOTHING_ELSEWHERE);
  }
  const { transfer } = outcome.answer;
  if (transfer.transferId !== command.transferId) {
    release(command.transferId, remotes);
    return made(await readElsewhere(ctx, handle, transfer));
  }
  return made(await postElsewhere(handle, transfer.transferId, remotes, lane, deadlineMs));
}

/** Posts the legs on every other shard, and closes the decision when all are; what is not done in time is left to recovery. */
export async function postElsewhere(
  payer: ShardHandle,
  transferId: string,
  remotes: readonly RemotePart[],
  lane: LaneName,
  deadlineMs: number,
): Promise<ElsewhereOfTransfer> {
  let allPosted = true;
  const parts = await Promise.all(
    remotes.map(async (part): Promise<ElsewhereOfTransfer> => {
      const prepared = toPrepared(part);
      const outcome = prepared && (await submit(part.handle, postCommand(transferId, prepared), lane, deadlineMs));
      if (outcome?.kind === "done" && outcome.answer.kind === "legs") {
        const position = eventPosition(part.handle, outcome.eventNumber);
        return postedElsewhere(outcome.answer.legs, position);
      }
      allPosted = false;
      return { balances: [], pendingAccountIds: accountsHere(part.legs), positions: [] };
    }),
  );
  if (allPosted) void submit(payer, closeCommand(transferId), PROTOCOL_LANE, performance.now() + COMMAND_TIMEOUT_MS);
  return merge(parts);
}

/** What the other shards say of a transfer that was made earlier; one that does not answer counts as on the way. */
export async function readElsewhere(
  ctx: Context,
  payer: ShardHandle,
  { transferId, postings }: PostedTransfer,
): Promise<ElsewhereOfTransfer> {
  const accountsOf = new Map<ShardHandle, string[]>();
  for (const { debitAccountId, creditAccountId } of postings) {
    for (const id of [debitAccountId, creditAccountId]) {
      const handle = ctx.shardOfId(id);
      if (handle === payer) continue;
      accountsOf.set(handle, [...(accountsOf.get(handle) ?? []), id]);
    }
  }
  const parts = await Promise.all(
    [...accountsOf].map(async ([handle, accountIds]): Promise<ElsewhereOfTransfer> => {
      const legs = await readRemoteLegs(ctx, handle, transferId);
      const [first] = legs;
      if (first?.state !== "POSTED")
        return { balances: [], pendingAccountIds: [...new Set(accountIds)], positions: [] };
      return postedElsewhere(legs, eventPosition(handle, typeof first.event === "bigint" ? first.event : undefined));
    }),
  );
  return merge(parts);
}

function postedElsewhere(legs: readonly LockedLeg[], position: Position | undefined): ElsewhereOfTransfer {
  // Every leg of the shard carries the same balances.
  const balances = legs[0]?.balances ?? [];
  return { balances, pendingAccountIds: [], positions: position === undefined ? [] : [position] };
}

function merge(parts: readonly ElsewhereOfTransfer[]): ElsewhereOfTransfer {
  return {
    balances: parts.flatMap(({ balances }) => balances),
    pendingAccountIds: parts.flatMap(({ pendingAccountIds }) => pendingAccountIds),
    positions: parts.flatMap(({ positions }) => positions),
  };
}

function accountsHere(legs: readonly RemoteLeg[]): string[] {
  return [
    ...new Set(
      legs.flatMap(({ debit, credit, debitIsHere, creditIsHere }) => [
        ...(debitIsHere ? [debit.id] : []),
        ...(creditIsHere ? [credit.id] : []),
      ]),
    ),
  ];
}

function eventPosition(handle: ShardHandle, number: bigint | undefined): Position | undefined {
  return number === undefined ? undefined : { shard: handle.shard.number, number };
}

/** Gives the room back without being waited for; what fails is left to recovery. */
export function release(transferId: string, remotes: readonly RemotePart[]): void {
  for (const part of remotes) {
    const prepared = toPrepared(part);
    if (prepared === undefined) continue;
    const command = releaseCommand(transferId, prepared);
    void submit(part.handle, command, PROTOCOL_LANE, performance.now() + COMMAND_TIMEOUT_MS);
  }
}

/** As `submit` of the queue, with a Refusal of the queue as an outcome: then nothing has happened. */
export async function submit(
  handle: ShardHandle,
  command: Parameters<ShardHandle["commands"]["submit"]>[0],
  lane: LaneName,
  deadlineMs: number,
): Promise<CommandOutcome> {
  try {
    return await handle.commands.submit(command, lane, deadlineMs);
  } catch (error) {
    if (error instanceof Refusal) return { kind: "refused", refusal: error, replayed: false };
    return { kind: "failed", error };
  }
}

/** Undefined when the shard was away when its transit account was looked up. */
function prepareCommand(transferId: string, { legs, quote, transitOf }: RemotePart): PrepareLegsCommand | undefined {
  if (transitOf === undefined) return undefined;
  return {
    kind: "prepare_legs",
    key: undefined,
    name: `prepare ${transferId}`,
    weight: weightOf(legs),
    accounts: [...accountNames(legs), ...transitOf.values()],
    transferId,
    legs,
    quote,
    transitOf,
  };
}

/** What is prepared on a shard, to be posted or released. */
export interface PreparedPart {
  readonly legs: readonly RemoteLeg[];
  readonly quoteId: string | undefined;
  readonly transitOf: ReadonlyMap<string, AccountName>;
}

/** Undefined when nothing was prepared there, as above. */
function toPrepared({ legs, quote, transitOf }: RemotePart): PreparedPart | undefined {
  return transitOf && { legs, quoteId: quote?.quoteId, transitOf };
}

export function postCommand(transferId: string, { legs, quoteId, transitOf }: PreparedPart): PostLegsCommand {
  return {
    kind: "post_legs",
    key: undefined,
    name: `post ${transferId}`,
    weight: weightOf(legs),
    accounts: [...accountNames(legs), ...transitOf.values()],
    transferId,
    quoteId,
    transitOf,
  };
}

export function releaseCommand(transferId: string, { legs, quoteId, transitOf }: PreparedPart): ReleaseLegsCommand {
  return {
    kind: "release_legs",
    key: undefined,
    name: `release ${transferId}`,
    weight: weightOf(legs),
    accounts: [...accountNames(legs), ...transitOf.values()],
    transferId,
    quoteId,
    transitOf,
  };
}

/** There may be a quote alone. */
function weightOf(legs: readonly RemoteLeg[]): number {
  return Math.max(legs.length, 1);
}

export function closeCommand(transferId: string): Parameters<ShardHandle["commands"]["submit"]>[0] {
  return { kind: "close_decision", key: undefined, name: `close ${transferId}`, weight: 1, accounts: [], transferId };
}

/** Of the legs, those that are on their shard. */
function accountNames(legs: readonly RemoteLeg[]): AccountName[] {
  return legs.flatMap(({ debit, credit, debitIsHere, creditIsHere }) => [
    ...(debitIsHere ? [debit] : []),
    ...(creditIsHere ? [credit] : []),
  ]);
}
