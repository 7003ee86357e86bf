import assert from "node:assert/strict";
import { test } from "node:test";
import { shardUrls } from "#infra/local/endpoints.ts";
import { call } from "#lib/grpc-client.ts";
import { forgetRates, quoteOf } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { startLedger } from "#tests/ledger-process.ts";
import { ledger, newKey, newOwner, openAccount, shardNumbers, stackName } from "#tests/stack.ts";

/** Exchange over several shards and processes. */

const GRPC_PORT = 17_411;
const NOBODY_LISTENS = "postgres://ledger@127.0.0.1:1/ledger";

test("rates that a shard missed are completed by the same call; meanwhile the others quote", async () => {
  await forgetRates("TRY", "GEL");
  const urls = shardUrls(stackName, "ledger").map((url, index) => (index === 2 ? NOBODY_LISTENS : url));
  const half = await startLedger(GRPC_PORT, urls);
  const idempotencyKey = newKey();
  const request = {
    rates: [{ base: "TRY", quote: "GEL", rate: "0.08", spreadBps: 0, asOf: new Date() }],
    idempotencyKey,
  };
  await assert.rejects(call(half.client, half.client.setRates, request), {
    code: 14,
    reason: "RATES_NOT_EVERYWHERE",
    metadata: { shards: "3" },
  });
  half.signal("SIGKILL");
  const quoteAt = async (shard: number) => {
    const { accountId } = await openAccount({ ownerId: newOwner(shard), currency: "TRY" }, shard);
    return (await quoteOf("TRY", "GEL", { sell: 1_000n }, { debitAccountId: accountId })).buyMinorUnits;
  };
  assert.deepEqual(await Promise.all([quoteAt(1), quoteAt(2)]), [80n, 80n]);
  await assert.rejects(quoteAt(3), { code: 9, reason: "RATE_UNKNOWN" });
  const { replayed } = await call(ledger, ledger.setRates, request);
  assert.equal(replayed, false);
  assert.deepEqual(await Promise.all(shardNumbers.map(quoteAt)), [80n, 80n, 80n]);
});

test("after all of it every shard sums to zero and every key has what it made", async () => {
  await assertInvariants();
});
