import { uuidToId } from "#lib/ids.ts";
import type { Refusal } from "#lib/refusal.ts";
import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import type { BatchEvent } from "#services/ledger/batch-event.ts";
import type { CommandKey, CommandOutcome, GroupCommand, LedgerCommand } from "#services/ledger/command.ts";
import { decodeRefusal } from "#services/ledger/command-key.ts";
import { evaluateCommand } from "#services/ledger/evaluate-command.ts";
import { evaluateGroup, refuseGroup } from "#services/ledger/evaluate-group.ts";
import type { KnownKey, LockedBatch } from "#services/ledger/lock-batch.ts";
import type { DecidedBatch } from "#services/ledger/post-transfers.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { TransferCommand } from "#services/ledger/transfer.ts";

/** What becomes of each command of a batch: replayed when its key was taken before, else evaluated. Pure. */

/** An outcome whose event, if it is of this batch, has no number yet. */
type DecidedOutcome =
  | (Omit<Extract<CommandOutcome, { kind: "done" }>, "eventNumber"> & { event: BatchEvent | bigint | undefined })
  | { readonly kind: "group"; readonly members: readonly DecidedOutcome[] }
  | Exclude<CommandOutcome, { kind: "done" }>;

export interface Decided extends DecidedBatch {
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
export function decide(commands: readonly LedgerCommand[], locked: LockedBatch): Decided {
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

/** The outcome, with the number of its event. */
export function numbered(outcome: DecidedOutcome, firstNumber: bigint): CommandOutcome {
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
