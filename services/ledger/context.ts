import type { NewId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import type { PageTokens } from "#lib/page-token.ts";
import type { BucketMap } from "#lib/shards.ts";
import type { AccountName, CommandOutcome, LedgerCommand } from "#services/ledger/command.ts";
import type { GroupCommit } from "#services/ledger/group-commit.ts";
import type { AccountOutcome, OpenAccountCommand } from "#services/ledger/open-accounts.ts";
import type { Shard } from "#services/ledger/shard.ts";

/** What the handlers work with; built once in main.ts. */
export interface Context {
  readonly log: Logger;
  readonly map: BucketMap;
  /** By its number: 1, 2, 3 … */
  readonly shardOf: (shard: number) => ShardHandle;
  /** Where a thing is, by its id (`acct_…`, `quot_…`). */
  readonly shardOfId: (id: string) => ShardHandle;
  readonly shards: readonly ShardHandle[];
  readonly newId: NewId;
  readonly pageTokens: PageTokens;
}

/** One shard with its queues. */
export interface ShardHandle {
  readonly shard: Shard;
  readonly commands: GroupCommit<LedgerCommand, CommandOutcome>;
  readonly accounts: GroupCommit<OpenAccountCommand, AccountOutcome>;
  /** System accounts known so far, or being opened, by `REFERENCE CURRENCY`. They never change. */
  readonly systemAccounts: Map<string, Promise<AccountName>>;
}

/** A payment command answers within 5 s (R-S3): what is left is for the way back. */
export const COMMAND_TIMEOUT_MS = 4_000;
/** A batch call's items may wait for those before them. */
export const BATCH_TIMEOUT_MS = 25_000;
