import type { Client } from "pg";
import type { CommandOutcome, LedgerCommand } from "#services/ledger/command.ts";
import type { CommandWriter } from "#services/ledger/command-writer.ts";
import { type Decided, decide, numbered } from "#services/ledger/decide-batch.ts";
import {
  accountNames,
  emptyBatch,
  needsAccountsOnly,
  singleCommands,
  sortedKeys,
} from "#services/ledger/lock-batch.ts";
import { sendStatements, type WriteStatements, writeStatements } from "#services/ledger/post-transfers.ts";
import { isConnectionLost } from "#services/ledger/shard.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";

/**
 * Optimistic concurrency control (Kung and Robinson, "On optimistic methods for concurrency control", 1981): a batch is decided
 * on what is known of its accounts (known-accounts.ts), taking its keys for free, and written in one round trip:
 *
 *   begin, take the keys, check the accounts that are only read, write everything (check those that change), commit
 *
 * Postgres ends the transaction (LM002) when a key was used before, an account is not as it was taken to be, or the clock has
 * moved away. Then nothing has happened, and the batch is done again with everything locked first (write-batch.ts).
 *
 * What is not committed yet is known as well: the next batch is decided and sent while Postgres writes this one, over the same
 * connection, so that it meets what this one has written. When this one fails, that one stands on what never was: so all of an
 * account that can change is compared, and not its version alone, to which another process may have come another way.
 */
export type OptimisticAttempt =
  | { readonly kind: "committed"; readonly outcomes: CommandOutcome[] }
  /** The connection broke: it may have happened. */
  | { readonly kind: "commit_lost" }
  /** Nothing has happened. */
  | { readonly kind: "refused" }
  /** The accounts or the clock could not be learned. Nothing has happened. */
  | { readonly kind: "not_known" };

/** Whether a batch can be decided on accounts alone. */
export function isForeseeable(commands: readonly LedgerCommand[]): boolean {
  return singleCommands(commands).every(needsAccountsOnly);
}

export async function tryOptimistically(
  { shard, connection, known }: CommandWriter,
  commands: readonly LedgerCommand[],
): Promise<OptimisticAttempt> {
  const singles = singleCommands(commands);
  const names = accountNames(singles);
  let db: Client;
  let absent: ReadonlySet<string>;
  try {
    [db, absent] = await Promise.all([connection.connection(), known.learn(names)]);
  } catch {
    return { kind: "not_known" };
  }
  const nowMs = known.clockMs();
  if (nowMs === undefined) return { kind: "not_known" };

  // From here to the sending nothing is waited for: batches are sent in the order in which they are decided.
  const before = new Map<string, LockedAccount>();
  // In the order in which everybody locks accounts.
  for (const uuid of [...names.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    const account = known.get(uuid);
    if (account !== undefined) before.set(uuid, account);
    // Forgotten since it was looked for: that it is not known does not say that it is not there.
    else if (!absent.has(uuid)) return { kind: "not_known" };
  }
  const batch = emptyBatch(
    nowMs,
    [...before.values()].map((account) => ({ ...account, touched: false })),
  );
  let decided: Decided;
  let statements: WriteStatements;
  try {
    decided = decide(commands, { batch, claimed: EVERY_KEY, known: new Map() });
    statements = writeStatements(shard.map.version, decided, { keys: sortedKeys(singles), accounts: before });
  } catch {
    // A defect of ours: found again, and told, where everything is locked.
    return { kind: "refused" };
  }
  const accounts = [...batch.accounts.values()];
  // After a statement that fails Postgres refuses the others, and answers ROLLBACK to the commit.
  const begun = db.query("begin");
  const sent = [sendStatements(db, statements), db.query("commit")] as const;
  known.note(accounts);

  const [began, posted, committed] = await Promise.allSettled([begun, ...sent]);
  if (began.status === "rejected") {
    // Without a transaction each statement was committed by itself, or the connection broke: the keys tell.
    known.forget(accounts);
    connection.discard(db);
    return { kind: "commit_lost" };
  }
  if (committed.status === "fulfilled" && posted.status === "fulfilled" && committed.value.command === "COMMIT") {
    const { firstNumber, clockMs } = posted.value;
    known.noteClock(clockMs);
    return { kind: "committed", outcomes: decided.outcomes.map((outcome) => numbered(outcome, firstNumber)) };
  }
  known.forget(accounts);
  if (committed.status === "fulfilled") return { kind: "refused" };
  if (isConnectionLost(committed.reason)) connection.discard(db);
  return { kind: "commit_lost" };
}

/** The keys of the batch, until Postgres says otherwise. */
const EVERY_KEY = { has: () => true };
