import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { decodePosition } from "#lib/position.ts";
import { Account_Kind, BatchCreateAccountsRequest, CreateAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newKey, newOwner, openAccount, readAccount } from "#tests/stack.ts";

function wallet(shard: number, more: Partial<CreateAccountRequest> = {}): CreateAccountRequest {
  return CreateAccountRequest.fromPartial({
    ownerId: newOwner(shard),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    ...more,
  });
}

test("a thousand accounts are opened on both shards, in order, and the answer's position names both", async () => {
  const request = BatchCreateAccountsRequest.fromPartial({
    accounts: Array.from({ length: 1_000 }, (_, index) => wallet((index % 2) + 1, { reference: `r${index}` })),
    idempotencyKey: newKey(),
  });
  const { response, position } = await call(ledger, ledger.batchCreateAccounts, request);
  assert.deepEqual(
    response.accounts.map(({ reference }) => reference),
    request.accounts.map(({ reference }) => reference),
  );
  assert.deepEqual(
    decodePosition(position ?? "")
      ?.map(({ shard }) => shard)
      .sort(),
    [1, 2],
  );
  assert.equal((await readAccount(response.accounts[999]?.accountId as string)).reference, "r999");

  const again = await call(ledger, ledger.batchCreateAccounts, request);
  assert.ok(again.replayed);
  assert.deepEqual(again.response, response);
});

test("another list under the same key is refused, a shorter one too", async () => {
  const request = BatchCreateAccountsRequest.fromPartial({
    accounts: [wallet(1), wallet(1)],
    idempotencyKey: newKey(),
  });
  await call(ledger, ledger.batchCreateAccounts, request);
  const shorter = { ...request, accounts: request.accounts.slice(0, 1) };
  await assert.rejects(call(ledger, ledger.batchCreateAccounts, shorter), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
});

test("a refused account is named", async () => {
  const taken = await openAccount({ reference: "main" });
  const accounts = [wallet(1), wallet(1, { ownerId: taken.ownerId, reference: "main" })];
  await assert.rejects(call(ledger, ledger.batchCreateAccounts, { accounts, idempotencyKey: newKey() }), {
    code: 9,
    reason: "REFERENCE_ALREADY_USED",
    message: /^accounts\[1\]: /,
  });
});

test("malformed accounts are named with their place, and none is opened", async () => {
  const good = wallet(1);
  const accounts = [good, wallet(1, { currency: "XXX" }), wallet(1, { idempotencyKey: "own" })];
  await assert.rejects(call(ledger, ledger.batchCreateAccounts, { accounts, idempotencyKey: newKey() }), {
    code: 3,
    fields: ["accounts[1].currency", "accounts[2].idempotency_key"],
  });
  assert.equal((await openAccount({ ownerId: good.ownerId, reference: "first" })).reference, "first");
});

test("an empty batch and one of 1,001 are refused", async () => {
  for (const accounts of [[], Array.from({ length: 1_001 }, () => wallet(1))]) {
    await assert.rejects(call(ledger, ledger.batchCreateAccounts, { accounts, idempotencyKey: newKey() }), {
      code: 3,
      fields: ["accounts"],
    });
  }
});
