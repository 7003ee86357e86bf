import { readFileSync } from "node:fs";
import { stackEnvironment } from "#infra/local/endpoints.ts";
import { createLogger } from "#lib/log.ts";
import { evenBucketRanges, shardOfBucket } from "#lib/shards.ts";
import type { Context } from "#services/identity/context.ts";
import { identityKeys } from "#services/identity/identity-keys.ts";
import { openShard, type Shard } from "#services/identity/shard.ts";
import { wakes } from "#services/identity/shard-worker.ts";
import { ledger, newId, stackName } from "#tests/stack.ts";

/** Thrown in place of a transaction: the process is dead from here on. */
export class Crash extends Error {}

const environment = stackEnvironment(stackName, "identity");
const log = createLogger("test");
log.level = "silent";
const shards = (environment.LEDGERMESH_SHARDS ?? "").split(",").map((url, index) => openShard(index + 1, url, log));
const map = { version: 1, ranges: evenBucketRanges(shards.length) };
const keys = identityKeys(readFileSync(environment.LEDGERMESH_IDENTITY_KEY_FILE as string));

/** Parts of identity's context on the databases of the stack, of a process that dies after so many transactions. */
export function identityContext(
  transactions = Number.POSITIVE_INFINITY,
): Pick<Context, "log" | "shards" | "shardOfBucket" | "newId" | "keys" | "emailWake" | "changeWake" | "ledger"> {
  let left = transactions;
  const mortal = shards.map(
    (shard): Shard => ({
      ...shard,
      async transact(work) {
        if (left <= 0) throw new Crash();
        left -= 1;
        return shard.transact(work);
      },
    }),
  );
  return {
    log,
    shards: mortal,
    shardOfBucket: (bucket) => mortal[shardOfBucket(map, bucket) - 1] as Shard,
    newId,
    keys,
    emailWake: wakes(shards.length),
    changeWake: wakes(shards.length),
    ledger,
  };
}

/** The connections keep the process alive. */
export async function closeIdentityContext(): Promise<void> {
  await Promise.all(shards.map((shard) => shard.close()));
}
