import type { NewId } from "#lib/ids.ts";
import type { Logger } from "#lib/log.ts";
import type { PageTokens } from "#lib/page-token.ts";
import type { BucketMap } from "#lib/shards.ts";
import type { GroupCommit } from "#services/ledger/group-commit.ts";
import type { AccountOutcome, OpenAccountCommand } from "#services/ledger/open-accounts.ts";
import type { Shard } from "#services/ledger/shard.ts";
import type { AccountName, TransferCommand, TransferOutcome } from "#services/ledger/transfer.ts";

/** What the handlers work with; built once in main.ts. */
export interface Context {
  readonly log: Logger;
  readonly map: BucketMap;
  /** The shard of a bucket (0..4095). */
  readonly shardOf: (bucket: number) => ShardHandle;
  readonly newId: NewId;
  readonly pageTokens: PageTokens;
}

/** One shard with its queues. */
export interface ShardHandle {
  readonly shard: Shard;
  readonly transfers: GroupCommit<TransferCommand, TransferOutcome>;
  readonly accounts: GroupCommit<OpenAccountCommand, AccountOutcome>;
  /** System accounts known so far, or being opened, by `REFERENCE CURRENCY`. They never change. */
  readonly systemAccounts: Map<string, Promise<AccountName>>;
}

/** A payment command answers within 5 s (R-S3): what is left is for the way back. */
export const COMMAND_TIMEOUT_MS = 4_000;
/** A batch call's items may wait for those before them. */
export const BATCH_TIMEOUT_MS = 25_000;
