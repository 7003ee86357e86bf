import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { uuidToId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import type { Refusal } from "#lib/refusal.ts";
import { decodeRefusal, keyText } from "#services/ledger/command-key.ts";
import { encodeTransferPosted } from "#services/ledger/encode-transfer.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import { type KnownKey, type LockedBatch, lockBatch } from "#services/ledger/lock-batch.ts";
import {
  type DecidedBatch,
  type PostColumns,
  type PostedCommand,
  postColumns,
  postTransfers,
} from "#services/ledger/post-transfers.ts";
import { refusals } from "#services/ledger/refusals.ts";
import {
  ConnectionLost,
  isConnectionLost,
  isContended,
  isDefect,
  isMapChanged,
  type Shard,
  type Writer,
} from "#services/ledger/shard.ts";
import type { TransferCommand, TransferOutcome } from "#services/ledger/transfer.ts";

/**
 * One batch of transfers as one Postgres transaction, in two round trips (design.md, ledger write path):
 *   1. begin, take the keys, lock the accounts, read the clock   (and read the keys that were taken before, if any)
 *   2. write everything, take event numbers, commit
 *
 * Killed before the commit: nothing has happened. Killed after: the repeated command finds its key. When the answer to
 * the commit is lost, the same commands are written again: a key that holds the command's own transfer id says that the
 * first try did commit.
 */
const MAX_TRIES_AFTER_LOST_COMMIT = 40;
const PAUSE_AFTER_LOST_COMMIT_MS = 250;

export async function writeTransfers(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
  commitLostBefore = false,
): Promise<TransferOutcome[]> {
  let commitLost = commitLostBefore;
  for (let tries = 0; ; tries += 1) {
    const attempt = await tryToWrite(shard, writer, log, commands);
    switch (attempt.kind) {
      case "committed":
        return attempt.outcomes;
      case "nothing_happened":
        // After a lost commit "nothing" speaks of this try only.
        if (!commitLost) return commands.map(() => refused(attempt.refusal));
        break;
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
    if (tries === MAX_TRIES_AFTER_LOST_COMMIT) return commands.map((command) => ({ kind: "unknown", command }));
    await sleep(PAUSE_AFTER_LOST_COMMIT_MS);
  }
}

type Attempt =
  | { readonly kind: "committed"; readonly outcomes: TransferOutcome[] }
  | { readonly kind: "nothing_happened"; readonly refusal: Refusal }
  | { readonly kind: "commit_lost" }
  /** Postgres refused a statement: a bug, or a resource that ran out. Nothing has happened. */
  | { readonly kind: "failed"; readonly error: unknown };

/** A command that Postgres does not take must not spoil the others: find it by halving. */
async function writeHalves(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
  commitLost: boolean,
  error: unknown,
): Promise<TransferOutcome[]> {
  if (commands.length === 1) return [{ kind: "failed", error }];
  log.error(
    { shard: shard.number, commands: commands.length, err: error },
    "Postgres refused a batch: writing its halves",
  );
  const middle = Math.ceil(commands.length / 2);
  const first = await writeTransfers(shard, writer, log, commands.slice(0, middle), commitLost);
  return [...first, ...(await writeTransfers(shard, writer, log, commands.slice(middle), commitLost))];
}

async function tryToWrite(
  shard: Shard,
  writer: Writer,
  log: Logger,
  commands: readonly TransferCommand[],
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
  let columns: PostColumns;
  try {
    decided = decide(commands, batch);
    columns = postColumns(shard.map.version, decided);
  } catch (error) {
    // A defect of ours must not leave the keys of this transaction to the next one.
    return giveUp(db, shard, writer, error);
  }
  if (decided.posted.length === 0 && decided.refusedNow.length === 0) {
    await db.query("rollback").catch(() => writer.discard());
    return { kind: "committed", outcomes: decided.outcomes };
  }
  const post = postTransfers(db, columns);
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

  for (const [ordinal, { index, transfer }] of decided.posted.entries()) {
    decided.outcomes[index] = {
      kind: "posted",
      transfer,
      eventNumber: posted.value + BigInt(ordinal),
      replayed: false,
    };
  }
  return { kind: "committed", outcomes: decided.outcomes };
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
  if (isContended(error)) return { kind: "nothing_happened", refusal: refusals.shardContended(shard.number) };
  if (isMapChanged(error)) return { kind: "nothing_happened", refusal: refusals.shardMapChanged(shard.number) };
  return { kind: "failed", error };
}

interface Decided extends DecidedBatch {
  /** One per command, in order; those of `posted` are filled in after the commit. */
  readonly outcomes: TransferOutcome[];
}

/** Decides the commands one by one, in the order of their arrival. */
function decide(commands: readonly TransferCommand[], batch: LockedBatch): Decided {
  const outcomes: TransferOutcome[] = [];
  const posted: PostedCommand[] = [];
  const refusedNow: { command: TransferCommand; refusal: Refusal; remembered: boolean }[] = [];
  for (const [index, command] of commands.entries()) {
    if (!batch.claimed.has(command.transferUuid)) {
      outcomes.push(replay(command, batch.known.get(keyText(command))));
      continue;
    }
    const evaluation = evaluateTransfer(command, batch.accounts, batch.nowMs);
    switch (evaluation.kind) {
      case "posted": {
        const { transfer, entries, accounts } = evaluation;
        posted.push({ index, command, transfer, entries, payload: encodeTransferPosted(transfer, entries, accounts) });
        outcomes.push({ kind: "unknown", command });
        break;
      }
      case "refused":
        refusedNow.push({ command, refusal: evaluation.refusal, remembered: evaluation.remembered });
        outcomes.push(refused(evaluation.refusal));
        break;
    }
  }
  return { outcomes, posted, refusedNow, touched: [...batch.accounts.values()].filter(({ touched }) => touched) };
}

/** The answer to a command whose key was taken before. */
function replay(command: TransferCommand, known: KnownKey | undefined): TransferOutcome {
  // Taken by a transaction that gave it back, or expired meanwhile: both rare, and the next try finds the key free.
  if (known === undefined) return refused(refusals.keyBusy(command.key.key));
  // Our own first try, whose commit was not answered.
  const replayed = known.transferUuid !== command.transferUuid;
  if (!known.fingerprint.equals(command.key.fingerprint)) {
    const made = known.posted === undefined ? undefined : uuidToId("xfer", known.transferUuid);
    return refused(refusals.idempotencyKeyReused(command.key.key, "transfer", made));
  }
  if (known.refusal !== null) {
    return { kind: "refused", refusal: decodeRefusal(known.refusal), replayed };
  }
  if (known.posted === undefined) {
    return { kind: "failed", error: new Error(`key ${command.key.key} has neither a transfer nor a refusal`) };
  }
  return { kind: "posted", ...known.posted, replayed };
}

function refused(refusal: Refusal): TransferOutcome {
  return { kind: "refused", refusal, replayed: false };
}
