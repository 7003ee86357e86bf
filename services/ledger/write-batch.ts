import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { Counter } from "prom-client";
import type { Logger } from "#lib/log.ts";
import type { Refusal } from "#lib/refusal.ts";
import type { CommandOutcome, LedgerCommand } from "#services/ledger/command.ts";
import type { CommandWriter } from "#services/ledger/command-writer.ts";
import { type Decided, decide, numbered } from "#services/ledger/decide-batch.ts";
import { type LockedBatch, lockBatch } from "#services/ledger/lock-batch.ts";
import { isForeseeable, tryOptimistically } from "#services/ledger/optimistic-batch.ts";
import { sendStatements, type WriteStatements, writeStatements } from "#services/ledger/post-transfers.ts";
import { refusals } from "#services/ledger/refusals.ts";
import {
  ConnectionLost,
  isConnectionLost,
  isContended,
  isDefect,
  isMapChanged,
  isOvertaken,
} from "#services/ledger/shard.ts";

/**
 * One batch of commands as one Postgres transaction. Most batches are decided on what is known of their accounts, and written
 * in one round trip that checks it (optimistic-batch.ts). The others, and those for which it was not so, take two:
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

const optimisticBatches = new Counter({
  name: "ledger_optimistic_batches_total",
  help: "Batches that were tried on what was known of their accounts, by what became of it",
  labelNames: ["shard", "outcome"],
});

export async function writeBatch(
  writer: CommandWriter,
  log: Logger,
  commands: readonly LedgerCommand[],
): Promise<CommandOutcome[]> {
  const { turns, optimism } = writer;
  let commitLost = false;
  if (isForeseeable(commands) && optimism.isWorthwhile()) {
    const attempt = await turns.beside(() => tryOptimistically(writer, commands));
    optimisticBatches.inc({ shard: writer.shard.number, outcome: attempt.kind });
    switch (attempt.kind) {
      case "committed":
        optimism.succeeded();
        return attempt.outcomes;
      case "commit_lost":
        noteLostCommit(writer, log, commands);
        commitLost = true;
        break;
      case "refused":
      case "not_known":
        optimism.failed();
        break;
    }
  }
  return writeLocked(writer, log, commands, commitLost);
}

function noteLostCommit({ shard }: CommandWriter, log: Logger, commands: readonly LedgerCommand[]): void {
  log.warn({ shard: shard.number, commands: commands.length }, "the answer to a commit was lost: looking the keys up");
}

/** With everything locked before it is decided, until it is known what became of it. */
async function writeLocked(
  writer: CommandWriter,
  log: Logger,
  commands: readonly LedgerCommand[],
  commitLostBefore: boolean,
): Promise<CommandOutcome[]> {
  let commitLost = commitLostBefore;
  let overtaken = 0;
  for (let tries = 0; ; tries += 1) {
    const attempt = await writer.turns.alone(() => tryToWrite(writer, log, commands));
    switch (attempt.kind) {
      case "committed":
        return attempt.outcomes;
      case "nothing_happened":
        // After a lost commit "nothing" speaks of this try only.
        if (!commitLost) return commands.map(() => ({ kind: "refused", refusal: attempt.refusal, replayed: false }));
        break;
      case "overtaken":
        overtaken += 1;
        if (overtaken > MAX_TRIES_OVERTAKEN) return writeHalves(writer, log, commands, commitLost, attempt.error);
        continue;
      case "failed":
        return writeHalves(writer, log, commands, commitLost, attempt.error);
      case "commit_lost":
        commitLost = true;
        noteLostCommit(writer, log, commands);
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
  writer: CommandWriter,
  log: Logger,
  commands: readonly LedgerCommand[],
  commitLost: boolean,
  error: unknown,
): Promise<CommandOutcome[]> {
  const { shard } = writer;
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
  const first = await writeLocked(writer, log, commands.slice(0, middle), commitLost);
  return [...first, ...(await writeLocked(writer, log, commands.slice(middle), commitLost))];
}

async function tryToWrite(writer: CommandWriter, log: Logger, commands: readonly LedgerCommand[]): Promise<Attempt> {
  const { shard, connection, known } = writer;
  let db: Client;
  try {
    db = await connection.connection();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    log.warn({ shard: shard.number, error: error.message }, "no connection to the shard");
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }

  let locked: LockedBatch;
  try {
    locked = await lockBatch(db, commands);
  } catch (error) {
    return giveUp(db, writer, error);
  }

  let decided: Decided;
  let statements: WriteStatements;
  try {
    decided = decide(commands, locked);
    statements = writeStatements(shard.map.version, decided);
  } catch (error) {
    // A defect of ours must not leave the keys of this transaction to the next one.
    return giveUp(db, writer, error);
  }
  if (decided.changesNothing) {
    await db.query("rollback").catch(() => connection.discard(db));
    return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, 0n)) };
  }
  known.forget(locked.batch.accounts.values());
  const post = sendStatements(db, statements);
  const commit = db.query("commit");
  const [posted, committed] = await Promise.allSettled([post, commit]);
  if (posted.status === "rejected" && !isConnectionLost(posted.reason)) return giveUp(db, writer, posted.reason);
  if (posted.status === "rejected" || committed.status === "rejected") {
    connection.discard(db);
    return { kind: "commit_lost" };
  }
  // Postgres answers ROLLBACK to the commit of a failed transaction.
  if (committed.value.command !== "COMMIT") {
    return { kind: "failed", error: new Error(`Postgres answered ${committed.value.command} to a commit`) };
  }
  known.note(locked.batch.accounts.values());
  known.noteClock(posted.value.clockMs);
  const { firstNumber } = posted.value;
  return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, firstNumber)) };
}

/** Ends the transaction of a batch that has not been committed. */
async function giveUp(db: Client, { shard, connection }: CommandWriter, error: unknown): Promise<Attempt> {
  if (isDefect(error)) {
    connection.discard(db);
    return { kind: "failed", error };
  }
  if (isConnectionLost(error)) {
    connection.discard(db);
    return { kind: "nothing_happened", refusal: refusals.shardUnavailable(shard.number) };
  }
  await db.query("rollback").catch(() => connection.discard(db));
  if (isOvertaken(error)) return { kind: "overtaken", error };
  if (isContended(error)) return { kind: "nothing_happened", refusal: refusals.shardContended(shard.number) };
  if (isMapChanged(error)) return { kind: "nothing_happened", refusal: refusals.shardMapChanged(shard.number) };
  return { kind: "failed", error };
}
