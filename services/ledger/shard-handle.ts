import { Histogram } from "prom-client";
import type { Logger } from "#lib/log.ts";
import type { CommandOutcome, LedgerCommand } from "#services/ledger/command.ts";
import { commandWriter } from "#services/ledger/command-writer.ts";
import type { CommittedHints } from "#services/ledger/committed-hints.ts";
import type { ShardHandle } from "#services/ledger/context.ts";
import { groupCommit } from "#services/ledger/group-commit.ts";
import { type AccountOutcome, type OpenAccountCommand, openAccounts } from "#services/ledger/open-accounts.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { Shard } from "#services/ledger/shard.ts";
import { writeBatch } from "#services/ledger/write-batch.ts";

/** Larger batches gain little and hold their locks longer. */
const MAX_COMMANDS_PER_BATCH = 1_000;
/** Postgres writes one batch while the next is decided here (docs/performance.md). */
const COMMAND_BATCHES_UNDER_WAY = 2;
/**
 * Batch calls overlap; single calls rather make one larger batch: of 64 callers, small batches side by side were slower, and one
 * that needs the connection for itself only waits.
 */
const MIN_OVERLAPPING_COMMANDS = 100;
/** A transfer has up to 100 postings; so many are written well within a transaction's time. */
const MAX_POSTINGS_PER_BATCH = 5_000;
/** Room for two full batch calls; more would only wait past its deadline. */
const MAX_WAITING_COMMANDS = 20_000;

const batchSize = new Histogram({
  name: "ledger_batch_commands",
  help: "Commands per transaction",
  labelNames: ["shard", "kind"],
  buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
});
const batchSeconds = new Histogram({
  name: "ledger_batch_seconds",
  help: "Time from taking a batch to its commit",
  labelNames: ["shard", "kind"],
  buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5],
});

/** A shard with its two queues: commands and new accounts, each with a connection of its own. */
export function shardHandle(shard: Shard, hints: CommittedHints, log: Logger): ShardHandle {
  const number = shard.number;
  const writer = commandWriter(shard);
  const accountWriter = shard.openWriter();

  async function measured<Outcome>(kind: string, commands: number, write: () => Promise<Outcome>): Promise<Outcome> {
    batchSize.observe({ shard: number, kind }, commands);
    const end = batchSeconds.startTimer({ shard: number, kind });
    try {
      return await write();
    } finally {
      end();
      hints.committed(number);
    }
  }
  const bounds = {
    maxBatch: MAX_COMMANDS_PER_BATCH,
    maxWeight: MAX_POSTINGS_PER_BATCH,
    maxQueued: MAX_WAITING_COMMANDS,
    tooLate: () => refusals.shardTooSlow(number),
    full: (waiting: number) => refusals.tooManyCommands(number, waiting),
  };
  return {
    shard,
    commands: groupCommit<LedgerCommand, CommandOutcome>({
      ...bounds,
      writers: Array.from(
        { length: COMMAND_BATCHES_UNDER_WAY },
        () => (batch: readonly LedgerCommand[]) =>
          measured("commands", batch.length, () => writeBatch(writer, log, batch)),
      ),
      minOverlap: MIN_OVERLAPPING_COMMANDS,
      keysOf: (command) => (command.kind === "group" ? command.members.map(({ name }) => name) : command.name),
      weightOf: ({ weight }) => weight,
      unknown: () => ({ kind: "unknown" }),
      breaksLane,
    }),
    accounts: groupCommit<OpenAccountCommand, AccountOutcome>({
      ...bounds,
      writers: [(batch) => measured("accounts", batch.length, () => openAccounts(shard, accountWriter, batch))],
      minOverlap: 0,
      keysOf: ({ key }) => key.text,
      weightOf: () => 1,
      unknown: () => ({ kind: "unknown" }),
      breaksLane,
    }),
    systemAccounts: new Map(),
  };
}

/** What is not the command's own fault: the shard was away, or nobody knows what became of it. */
function breaksLane(outcome: CommandOutcome | AccountOutcome): boolean {
  return outcome.kind === "unknown" || (outcome.kind === "refused" && outcome.refusal.status === "UNAVAILABLE");
}
