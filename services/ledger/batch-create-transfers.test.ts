import assert from "node:assert/strict";
import { test } from "node:test";
import { call, readDetails } from "#lib/grpc-client.ts";
import type { BatchCreateTransfersResponse_Result, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  eventually,
  ledger,
  newKey,
  openAccount,
  openFunded,
  readAccount,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

const batch = (transfers: CreateTransferRequest[]) =>
  call(ledger, ledger.batchCreateTransfers, { transfers }).then(({ response }) => response.results);

function reason(result: BatchCreateTransfersResponse_Result | undefined): string {
  return result?.outcome?.$case === "error" ? (readDetails(result.outcome.value).info?.reason ?? "") : "POSTED";
}

test("each transfer has its own result, in order; a refused or malformed one spoils no other", async () => {
  const [payer, payee, elsewhere] = [await openFunded(100n), await openAccount(), await openAccount({}, 2)];
  const to = (accountId: string, amount: bigint) => transferRequest(payer.accountId, accountId, amount);
  const results = await batch([
    to(payee.accountId, 60n),
    to(payee.accountId, 60n),
    to(payee.accountId, 0n),
    to(elsewhere.accountId, 41n),
    transferRequest("system:cash", elsewhere.accountId, 7n),
    { ...to(payee.accountId, 1n), idempotencyKey: "" },
    to(payee.accountId, 40n),
  ]);
  assert.deepEqual(results.map(reason), [
    "POSTED",
    "INSUFFICIENT_FUNDS",
    "MALFORMED_REQUEST",
    "INSUFFICIENT_FUNDS",
    "POSTED",
    "IDEMPOTENCY_KEY_REQUIRED",
    "POSTED",
  ]);
  assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 0n);
  assert.equal((await readAccount(elsewhere.accountId)).postedMinorUnits, 7n);
});

test("the order holds between accounts and system accounts, also those that the call itself opens", async () => {
  const [one, other] = [await openAccount(), await openAccount()];
  const fresh = `system:t${newKey().slice(5)}`;
  const items = Array.from({ length: 200 }, (_, index) => [
    transferRequest(index % 2 === 0 ? "system:cash" : fresh, one.accountId, 1n),
    transferRequest(one.accountId, other.accountId, 1n),
    transferRequest(other.accountId, index % 2 === 0 ? `${fresh}2` : "system:cash", 1n),
  ]).flat();
  assert.deepEqual(new Set((await batch(items)).map(reason)), new Set(["POSTED"]));
});

test("10,000 transfers in one call are made in order while single calls are served", async () => {
  const [payer, payee, other] = [await openFunded(10_000n), await openAccount(), await openFunded(100n)];
  const items = Array.from({ length: 10_000 }, () => transferRequest(payer.accountId, payee.accountId, 1n));
  let ended = false;
  const whole = batch(items).finally(() => {
    ended = true;
  });
  await eventually(async () => (await readAccount(payee.accountId)).postedMinorUnits > 0n, "the batch has begun");
  await transfer(other.accountId, payee.accountId, 1n);
  assert.equal(ended, false, "the single call waited for the whole batch");
  const results = await whole;
  const balances = results.map(({ outcome }) =>
    outcome?.$case === "transfer" ? outcome.value.balances[0]?.postedMinorUnits : undefined,
  );
  assert.deepEqual(
    balances,
    Array.from({ length: 10_000 }, (_, index) => BigInt(9_999 - index)),
  );

  const again = await batch(items.slice(0, 50));
  assert.ok(again.every(({ replayed }) => replayed));
  assert.deepEqual(
    again.map(({ outcome }) => outcome),
    results.slice(0, 50).map(({ outcome }) => outcome),
  );
});

test("keys are shared with single calls", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 1n);
  const { response } = await call(ledger, ledger.createTransfer, request);
  const [result] = await batch([request]);
  assert.ok(result?.replayed && result.outcome?.$case === "transfer");
  assert.equal(result.outcome.value.transferId, response.transferId);
});

test("an empty call, one of 10,001 and one with a key twice are refused as a whole", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const item = transferRequest(payer.accountId, payee.accountId, 1n);
  await assert.rejects(batch([]), { code: 3, fields: ["transfers"] });
  await assert.rejects(batch(Array.from({ length: 10_001 }, () => item)), { code: 3, fields: ["transfers"] });
  await assert.rejects(batch([item, transferRequest(payer.accountId, payee.accountId, 1n), item]), {
    code: 3,
    fields: ["transfers[2].idempotency_key"],
  });
  assert.equal((await readAccount(payer.accountId)).version, 2n);
});
