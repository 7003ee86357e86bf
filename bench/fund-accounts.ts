import { randomUUID } from "node:crypto";
import { CURRENCY } from "#bench/load-request.ts";
import { call } from "#lib/grpc-client.ts";
import { FIRST_PINNED_BUCKET, idGenerator } from "#lib/ids.ts";
import { evenBucketRanges } from "#lib/shards.ts";
import {
  Account_Kind,
  BatchCreateAccountsRequest,
  BatchCreateTransfersRequest,
  CreateAccountRequest,
  CreateTransferRequest,
  type LedgerServiceClient,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** Far more than any run moves out of one account, one minor unit at a time. */
const BALANCE_MINOR_UNITS = 1_000_000_000n;
const PER_CALL = 1_000;

/** Opens wallets whose buckets are on the given shards, evenly, and gives each its balance out of `system:cash`. */
export async function fundAccounts(
  ledger: LedgerServiceClient,
  count: number,
  shards: readonly number[],
  shardCount: number,
): Promise<string[]> {
  const newId = idGenerator(Date.now);
  const buckets = evenBucketRanges(shardCount)
    .filter(({ shard, firstBucket }) => shards.includes(shard) && firstBucket < FIRST_PINNED_BUCKET)
    .flatMap(({ firstBucket, lastBucket }) =>
      Array.from({ length: lastBucket - firstBucket + 1 }, (_, index) => firstBucket + index),
    );
  const accountIds: string[] = [];
  for (let done = 0; done < count; done += PER_CALL) {
    const accounts = Array.from({ length: Math.min(PER_CALL, count - done) }, () => {
      const bucket = buckets[Math.floor(Math.random() * buckets.length)] as number;
      return CreateAccountRequest.fromPartial({
        ownerId: newId("user", bucket),
        currency: CURRENCY,
        kind: Account_Kind.WALLET,
      });
    });
    const request = BatchCreateAccountsRequest.fromPartial({ accounts, idempotencyKey: randomUUID() });
    const { response } = await call(ledger, ledger.batchCreateAccounts, request);
    const opened = response.accounts.map(({ accountId }) => accountId);
    // The first alone: it opens `system:cash`, which the others would all wait for.
    await fund(ledger, opened.slice(0, 1));
    await fund(ledger, opened.slice(1));
    accountIds.push(...opened);
  }
  return accountIds;
}

async function fund(ledger: LedgerServiceClient, accountIds: readonly string[]): Promise<void> {
  const transfers = accountIds.map((creditAccountId) =>
    transferRequest("system:cash", creditAccountId, BALANCE_MINOR_UNITS),
  );
  const { response } = await call(
    ledger,
    ledger.batchCreateTransfers,
    BatchCreateTransfersRequest.fromPartial({ transfers }),
  );
  const refused = response.results.find(({ outcome }) => outcome?.$case !== "transfer");
  if (refused !== undefined) throw new Error(`an account could not be funded: ${JSON.stringify(refused.outcome)}`);
}

/** One posting under a key of its own. */
export function transferRequest(
  debitAccountId: string,
  creditAccountId: string,
  amountMinorUnits: bigint,
): CreateTransferRequest {
  return CreateTransferRequest.fromPartial({
    postings: [{ debitAccountId, creditAccountId, amountMinorUnits, currency: CURRENCY }],
    idempotencyKey: randomUUID(),
  });
}
