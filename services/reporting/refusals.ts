import { malformed, Refusal } from "#lib/refusal.ts";

/** Every reason for which this service refuses, beside malformed fields (lib/refusal.ts) and page tokens. */

const RETRY_AFTER_MS = 1_000;

export const refusals = {
  /** The header is no token of ours. */
  readAfterMalformed: () =>
    malformed([{ field: "x-read-after", description: "is not the x-ledger-position of an answer of the ledger" }]),

  /** Not there, not known yet, or somebody else's: nobody can tell which. */
  accountNotFound: (accountId: string) =>
    new Refusal("NOT_FOUND", "ACCOUNT_NOT_FOUND", `There is no account ${accountId}.`, {
      metadata: { account_id: accountId, resource_type: "account", resource_name: accountId },
    }),

  /** Without `reached` for those whom it is no business of: how much the ledger writes. */
  projectionBehind: (shard: number, wanted: bigint, reached: bigint | undefined) =>
    new Refusal(
      "UNAVAILABLE",
      "PROJECTION_BEHIND",
      `The history of shard ${shard} has not reached event ${wanted} yet${reached === undefined ? "" : `, but ${reached}`}. Try again in a moment, or without x-read-after.`,
      {
        metadata: {
          shard: shard.toString(),
          wanted: wanted.toString(),
          ...(reached === undefined ? {} : { reached: reached.toString() }),
        },
        retryAfterMs: RETRY_AFTER_MS,
      },
    ),

  historyUnavailable: () =>
    new Refusal("UNAVAILABLE", "HISTORY_UNAVAILABLE", "The history cannot be read at the moment. Try again.", {
      retryAfterMs: RETRY_AFTER_MS,
    }),

  tooManyQueries: (waiting: number) =>
    new Refusal("RESOURCE_EXHAUSTED", "TOO_MANY_QUERIES", `${waiting} queries wait already. Try again.`, {
      retryAfterMs: RETRY_AFTER_MS,
    }),
} as const;
