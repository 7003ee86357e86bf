import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { Account_Status, UnfreezeAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newKey, openAccount, openFunded, setStatus, transfer } from "#tests/stack.ts";

test("an account that is unfrozen takes debits and credits again, from its own shard and another", async () => {
  const [account, far] = [await openFunded(100n), await openFunded(100n, {}, 2)];
  await setStatus("freeze", account.accountId);
  const { response } = await setStatus("unfreeze", account.accountId);
  assert.deepEqual([response.status, response.version], [Account_Status.ACTIVE, 4n]);
  await transfer(account.accountId, far.accountId, 10n);
  await transfer(far.accountId, account.accountId, 5n);
});

test("what was refused while it was frozen stays refused under its key", async () => {
  const [account, other] = [await openFunded(100n), await openAccount()];
  await setStatus("freeze", account.accountId);
  const idempotencyKey = newKey();
  const again = () => transfer(account.accountId, other.accountId, 1n, { idempotencyKey });
  await assert.rejects(again(), { code: 9, reason: "ACCOUNT_FROZEN", replayed: false });
  await setStatus("unfreeze", account.accountId);
  await assert.rejects(again(), { code: 9, reason: "ACCOUNT_FROZEN", replayed: true });
});

test("an account that is not frozen is not unfrozen, and 50 identical calls are one", async () => {
  const account = await openAccount();
  await assert.rejects(setStatus("unfreeze", account.accountId), {
    code: 9,
    reason: "ACCOUNT_ACTIVE",
    metadata: { account_id: account.accountId, status: "ACTIVE" },
  });
  await setStatus("freeze", account.accountId);
  const request = UnfreezeAccountRequest.fromPartial({ accountId: account.accountId, idempotencyKey: newKey() });
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.unfreezeAccount, request)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.ok(answers.every(({ response }) => response.version === 3n));
});
