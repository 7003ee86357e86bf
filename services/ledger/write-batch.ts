import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { uuidToId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import type { Refusal } from "#lib/refusal.ts";
import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { CommandKey, CommandOutcome, GroupCommand, LedgerCommand } from "#services/ledger/command.ts";
import { decodeRefusal } from "#services/ledger/command-key.ts";
import { evaluateCommand } from "#services/ledger/evaluate-command.ts";
import { evaluateGroup, refuseGroup } from "#services/ledger/evaluate-group.ts";
import { type KnownKey, type LockedBatch, lockBatch } from "#services/ledger/lock-batch.ts";
import {
  type DecidedBatch,
  sendStatements,
  type WriteStatements,
  writeStatements,
} from "#services/ledger/post-transfers.ts";
import { refusals } from "#services/ledger/refusals.ts";
import {
  ConnectionLost,
  isConnectionLost,
  isContended,
  isDefect,
  isMapChanged,
  isOvertaken,
  type Shard,
  type Writer,
} from "#services/ledger/shard.ts";
import type { TransferCommand } from "#services/ledger/transfer.ts";

/**
 * One batch of commands as one Postgres transaction, in two round trips (design.md, ledger write path):
 *   1. begin, take the keys, lock the accounts, read the clock   (and read the keys that were taken before, if any)
 *   2. write everything, take event numbers, commit
 *
 * Killed before the commit: nothing has happened. Killed after: the repeated command finds its key. When the answer to
 * the commit is lost, the same commands are written again: a key that holds the command's own resource id says that the
 * first try did commit; commands without a key may be done twice.
 */
const MAX_TRIES_AFTER_LOST_COMMIT = 40;
const PAUSE_AFTER_LOST_COMMIT_MS = 250;
/** Each reads what the one that was faster has written, so that one is enough for a row; a batch may have several. */
const MAX_TRIES_OVERTAKEN = 5;

export async function writeBatch(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly LedgerCommand[],
  commitLostBefore = false,
): Promise<CommandOutcome[]> {
  let commitLost = commitLostBefore;
  let overtaken = 0;
  for (let tries = 0; ; tries += 1) {
    const attempt = await tryToWrite(shard, writer, log, commands);
    switch (attempt.kind) {
      case "committed":
        return attempt.outcomes;
      case "nothing_happened":
        // After a lost commit "nothing" speaks of this try only.
        if (!commitLost) return commands.map(() => ({ kind: "refused", refusal: attempt.refusal, replayed: false }));
        break;
      case "overtaken":
        overtaken += 1;
        if (overtaken > MAX_TRIES_OVERTAKEN)
          return writeHalves(shard, writer, log, commands, commitLost, attempt.error);
        continue;
      case "failed":
        return writeHalves(shard, writer, log, commands, commitLost, attempt.error);
      case "commit_lost":
        commitLost = true;
        log.warn(
          { shard: shard.number, commands: commands.length },
          "the answer to a commit was lost: looking the keys up",
        );
        break;
    }
    if (tries === MAX_TRIES_AFTER_LOST_COMMIT) return commands.map(() => ({ kind: "unknown" }));
    await sleep(PAUSE_AFTER_LOST_COMMIT_MS);
  }
}

type Attempt =
  | { readonly kind: "committed"; readonly outcomes: CommandOutcome[] }
  | { readonly kind: "nothing_happened"; readonly refusal: Refusal }
  | { readonly kind: "commit_lost" }
  /** Another transaction has made a row that was not there when this one looked. Nothing has happened. */
  | { readonly kind: "overtaken"; readonly error: unknown }
  /** Postgres refused a statement: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };

/** A command that Postgres does not take must not spoil the others: find it by halving. */
async function writeHalves(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly LedgerCommand[],
  commitLost: boolean,
  error: unknown,
): Promise<CommandOutcome[]> {
  if (commands.length === 1) {
    if (!commitLost) return [{ kind: "failed", error }];
    // "Failed" speaks of this try only: an earlier one may have committed, and what waits for it elsewhere must stay.
    log.error({ shard: shard.number, err: error }, "Postgres refused a command whose commit was lost before");
    return [{ kind: "unknown" }];
  }
  log.error(
    { shard: shard.number, commands: commands.length, err: error },
    "Postgres refused a batch: writing its halves",
  );
  const middle = Math.ceil(commands.length / 2);
  const first = await writeBatch(shard, writer, log, commands.slice(0, middle), commitLost);
  return [...first, ...(await writeBatch(shard, writer, log, commands.slice(middle), commitLost))];
}

async function tryToWrite(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly LedgerCommand[],
): Promise<Attempt> {
  let db: Client;
  try {
    db = await writer.connection();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    log.warn({ shard: shard.number, error: error.message }, "no connection to the shard");
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }

  let batch: LockedBatch;
  try {
    batch = await lockBatch(db, commands);
  } catch (error) {
    return giveUp(db, shard, writer, error);
  }

  let decided: Decided;
  let statements: WriteStatements;
  try {
    decided = decide(commands, batch);
    statements = writeStatements(shard.map.version, decided);
  } catch (error) {
    // A defect of ours must not leave the keys of this transaction to the next one.
    return giveUp(db, shard, writer, error);
  }
  if (decided.changesNothing) {
    await db.query("rollback").catch(() => writer.discard());
    return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, 0n)) };
  }
  const post = sendStatements(db, statements);
  const commit = db.query("commit");
  const [posted, committed] = await Promise.allSettled([post, commit]);
  if (posted.status === "rejected" && !isConnectionLost(posted.reason)) return giveUp(db, shard, writer, posted.reason);
  if (posted.status === "rejected" || committed.status === "rejected") {
    writer.discard();
    return { kind: "commit_lost" };
  }
  // Postgres answers ROLLBACK to the commit of a failed transaction.
  if (committed.value.command !== "COMMIT") {
    return { kind: "failed", error: new Error(`Postgres answered ${committed.value.command} to a commit`) };
  }
  return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, posted.value)) };
}

/** Ends the transaction of a batch that has not been committed. */
async function giveUp(db: Client, shard: Shard, writer: Writer, error: unknown): Promise<Attempt> {
  if (isDefect(error)) {
    writer.discard();
    return { kind: "failed", error };
  }
  if (isConnectionLost(error)) {
    writer.discard();
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }
  await db.query("rollback").catch(() => writer.discard());
  if (isOvertaken(error)) return { kind: "overtaken", error };
  if (isContended(error)) return { kind: "nothing_happened", refusal: refusals.shardContended(shard.number) };
  if (isMapChanged(error)) return { kind: "nothing_happened", refusal: refusals.shardMapChanged(shard.number) };
  return { kind: "failed", error };
}

/** An outcome whose event, if it is of this batch, has no number yet. */
type DecidedOutcome =
  | (Omit<Extract<CommandOutcome, { kind: "done" }>, "eventNumber"> & { event: BatchEvent | bigint | undefined })
  | { readonly kind: "group"; readonly members: readonly DecidedOutcome[] }
  | Exclude<CommandOutcome, { kind: "done" }>;

interface Decided extends DecidedBatch {
  /** One per command, in order. */
  readonly outcomes: readonly DecidedOutcome[];
  /** Every command was a replay. */
  readonly changesNothing: boolean;
}

interface RefusedKey {
  readonly key: CommandKey;
  readonly refusal: Refusal;
  readonly remembered: boolean;
}

/** Decides the commands one by one, in the order of their arrival. */
function decide(commands: readonly LedgerCommand[], locked: LockedBatch): Decided {
  const { batch, claimed, known } = locked;
  const refusedKeys: RefusedKey[] = [];
  const keyEvents: { key: CommandKey; event: BatchEvent }[] = [];
  let evaluated = 0;
  const outcomes = commands.map((command): DecidedOutcome => {
    if (command.kind === "group") {
      if (command.members.some((member) => !claimed.has(member.key.text))) {
        return replayGroup(command, locked, refusedKeys);
      }
      evaluated += 1;
      return makeGroup(command, batch, refusedKeys);
    }
    const { key } = command;
    if (key !== undefined && !claimed.has(key.text)) return replay(key, known.get(key.text));
    evaluated += 1;
    const evaluation = evaluateCommand(command, batch);
    if (key !== undefined) noteKey(key, evaluation, refusedKeys, keyEvents);
    return evaluation.kind === "done" ? { ...evaluation, replayed: false } : refused(evaluation.refusal);
  });
  return { outcomes, batch, refusedKeys, keyEvents, changesNothing: evaluated === 0 };
}

/** Decides a group whose keys were all free. */
function makeGroup({ members }: GroupCommand, batch: Batch, refusedKeys: RefusedKey[]): DecidedOutcome {
  const evaluation = evaluateGroup(members, batch);
  if (evaluation.kind === "done") {
    return { kind: "group", members: evaluation.evaluations.map((done) => ({ ...done, replayed: false })) };
  }
  const { at, refusal, remembered } = evaluation;
  const own = members.map((_, index) => (index === at ? refusal : undefined));
  return refuseMembers(members, own, remembered, refusedKeys);
}

/**
 * The answer to a group of which some keys were taken before. A group is replayed as a whole or made as a whole: the keys
 * are bound to all of it (make-group.ts), so those of a group that was decided are all known. One that is known beside free
 * ones was used for something else, or is what the retention has left of it; the free ones go back.
 */
function replayGroup(
  { members }: GroupCommand,
  { claimed, known }: LockedBatch,
  refusedKeys: RefusedKey[],
): DecidedOutcome {
  const someAreFree = members.some(({ key }) => claimed.has(key.text));
  const own = members.map(({ key }) => {
    if (claimed.has(key.text)) return undefined;
    const earlier = known.get(key.text);
    if (earlier === undefined) return refusals.keyBusy(key.key);
    return someAreFree || !earlier.fingerprint.equals(key.fingerprint) ? reused(key, earlier) : undefined;
  });
  if (own.every((refusal) => refusal === undefined)) {
    return { kind: "group", members: members.map(({ key }) => replay(key, known.get(key.text))) };
  }
  const free = members.filter(({ key }) => claimed.has(key.text));
  return refuseMembers(members, own, false, refusedKeys, free);
}

/** `free`: the members whose keys this batch has taken. */
function refuseMembers(
  members: readonly TransferCommand[],
  own: readonly (Refusal | undefined)[],
  remembered: boolean,
  refusedKeys: RefusedKey[],
  free: readonly TransferCommand[] = members,
): DecidedOutcome {
  const told = refuseGroup(
    own,
    members.map(({ key }) => key.key),
  );
  for (const [index, member] of members.entries()) {
    if (free.includes(member)) refusedKeys.push({ key: member.key, refusal: told[index] as Refusal, remembered });
  }
  const [first] = told;
  // As the answer of all of it, so that an ordered lane ends here.
  if (first !== undefined && told.every((refusal) => refusal === first)) return refused(first);
  return { kind: "group", members: told.map(refused) };
}

function noteKey(
  key: CommandKey,
  evaluation: Evaluation,
  refusedKeys: RefusedKey[],
  keyEvents: { key: CommandKey; event: BatchEvent }[],
): void {
  if (evaluation.kind === "refused") refusedKeys.push({ key, ...evaluation });
  else if (evaluation.answer.kind !== "transfer" && typeof evaluation.event === "object") {
    keyEvents.push({ key, event: evaluation.event });
  }
}

function numbered(outcome: DecidedOutcome, firstNumber: bigint): CommandOutcome {
  if (outcome.kind === "group") {
    const members = outcome.members.map((member) => numbered(member, firstNumber));
    return { kind: "done", answer: { kind: "group", members }, eventNumber: undefined, replayed: false };
  }
  if (outcome.kind !== "done") return outcome;
  const { answer, event, replayed } = outcome;
  const eventNumber = typeof event === "object" ? firstNumber + BigInt(event.ordinal) : event;
  return { kind: "done", answer, eventNumber, replayed };
}

/** The answer to a command whose key was taken before. */
function replay(key: CommandKey, known: KnownKey | undefined): DecidedOutcome {
  // Taken by a transaction that gave it back, or expired meanwhile: both rare, and the next try finds the key free.
  if (known === undefined) return refused(refusals.keyBusy(key.key));
  // Our own first try, whose commit was not answered.
  const replayed = known.resourceUuid !== key.resourceUuid;
  if (!known.fingerprint.equals(key.fingerprint)) return refused(reused(key, known));
  if (known.refusal !== null) return { kind: "refused", refusal: decodeRefusal(known.refusal), replayed };
  const { transfer, resourceUuid, eventNumber: event } = known;
  const answer =
    transfer === undefined ? ({ kind: "resource", resourceUuid } as const) : ({ kind: "transfer", transfer } as const);
  return { kind: "done", answer, event, replayed };
}

function reused(key: CommandKey, known: KnownKey): Refusal {
  const made = key.makes === undefined || known.refusal !== null ? undefined : uuidToId(key.makes, known.resourceUuid);
  return refusals.idempotencyKeyReused(key.key, made);
}

function refused(refusal: Refusal): DecidedOutcome {
  return { kind: "refused", refusal, replayed: false };
}
