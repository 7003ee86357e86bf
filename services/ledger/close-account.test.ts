// Runs alone: it locks rows from outside, and the shard's queue waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { uuidToId } from "#lib/ids.ts";
import {
  Account_Kind,
  Account_Status,
  CloseAccountRequest,
  CreateAccountRequest,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { holdUpPosting } from "#tests/hold-up-posting.ts";
import { hold, voidHold } from "#tests/holds.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  ledger,
  newKey,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  setStatus,
  transfer,
} from "#tests/stack.ts";

test("a closed account takes nothing and is never used again, from its own shard or another; its entries stay readable", async () => {
  const [near, far] = [await openFunded(100n), await openFunded(100n, {}, 2)];
  for (const shard of [1, 2]) {
    const account = await openFunded(10n, {}, shard);
    await transfer(account.accountId, near.accountId, 10n);
    const { response } = await setStatus("close", account.accountId);
    assert.deepEqual([response.status, response.version], [Account_Status.CLOSED, 4n]);
    for (const other of [near, far]) {
      await assert.rejects(transfer(other.accountId, account.accountId, 1n), { code: 9, reason: "ACCOUNT_CLOSED" });
      await assert.rejects(transfer(account.accountId, other.accountId, 1n), { code: 9, reason: "ACCOUNT_CLOSED" });
    }
    await assert.rejects(transfer("system:cash", account.accountId, 1n), { code: 9, reason: "ACCOUNT_CLOSED" });
    for (const change of ["freeze", "unfreeze", "close"] as const)
      await assert.rejects(setStatus(change, account.accountId), {
        code: 9,
        reason: "ACCOUNT_CLOSED",
        metadata: { account_id: account.accountId, status: "CLOSED" },
      });
    assert.deepEqual(await readAccount(account.accountId), response);
    const page = { accountId: account.accountId, pageSize: 0, pageToken: "" };
    assert.equal((await call(ledger, ledger.listAccountEntries, page)).response.entries.length, 2);
  }
});

test("a frozen account can be closed, and 50 identical calls are one", async () => {
  const account = await openAccount();
  await setStatus("freeze", account.accountId);
  const request = CloseAccountRequest.fromPartial({ accountId: account.accountId, idempotencyKey: newKey() });
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.closeAccount, request)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  assert.ok(answers.every(({ response }) => response.status === Account_Status.CLOSED && response.version === 3n));
});

test("an account with money, or overdrawn, is not closed and is told how much it is", async () => {
  const account = await openFunded(7n);
  await assert.rejects(setStatus("close", account.accountId), {
    code: 9,
    reason: "ACCOUNT_NOT_EMPTY",
    metadata: { account_id: account.accountId, posted_minor_units: "7" },
  });
  const overdrawn = await openAccount({ floor: { $case: "unbounded", value: true } });
  await transfer(overdrawn.accountId, account.accountId, 5n);
  await assert.rejects(setStatus("close", overdrawn.accountId), {
    code: 9,
    reason: "ACCOUNT_NOT_EMPTY",
    metadata: { account_id: overdrawn.accountId, posted_minor_units: "-5" },
  });
});

test("a payer whose money is still on its way to another shard may be closed: what is open of it is not the payer's", async () => {
  const [payer, payee] = [await openFunded(11n), await openAccount({}, 2)];
  await transfer(payer.accountId, payee.accountId, 1n);
  const { answer, letGo } = await holdUpPosting(payer, payee, () => transfer(payer.accountId, payee.accountId, 10n));
  try {
    await eventually(async () => (await readAccount(payer.accountId)).postedMinorUnits === 0n, "it is decided");
    assert.equal((await setStatus("close", payer.accountId)).response.status, Account_Status.CLOSED);
    assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 1n);
  } finally {
    await letGo();
  }
  assert.equal((await answer).response.state, Transfer_State.POSTED);
  await eventually(async () => (await readAccount(payee.accountId)).postedMinorUnits === 11n, "the money has arrived");
});

test("the reference of a closed account stays taken", async () => {
  const account = await openAccount({ reference: "main" });
  await setStatus("close", account.accountId);
  const again = CreateAccountRequest.fromPartial({
    ownerId: account.ownerId,
    currency: "EUR",
    kind: Account_Kind.WALLET,
    reference: "main",
    idempotencyKey: newKey(),
  });
  await assert.rejects(call(ledger, ledger.createAccount, again), { code: 9, reason: "REFERENCE_ALREADY_USED" });
});

test("accounts named system:NAME are never closed but may be frozen; the transit account is left alone", async () => {
  const [payer, far] = [await openFunded(10n), await openAccount({}, 2)];
  const name = `system:t${newKey().slice(5)}`;
  const { response } = await transfer(payer.accountId, name, 1n);
  const system = response.postings[0]?.creditAccountId ?? "";
  await transfer(system, payer.accountId, 1n);
  await assert.rejects(setStatus("close", system), {
    code: 9,
    reason: "SYSTEM_ACCOUNT_STAYS_OPEN",
    metadata: { account_id: system, reference: name },
  });
  await setStatus("freeze", system);
  await assert.rejects(transfer(payer.accountId, name, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
  await setStatus("unfreeze", system);
  await transfer(payer.accountId, name, 1n);

  await transfer(payer.accountId, far.accountId, 1n);
  const { rows } = await postgres(1).query<{ account_id: string }>(
    "select account_id from ledger.accounts where reference = 'system:transit' and currency = 'EUR'",
  );
  const transit = uuidToId("acct", rows[0]?.account_id ?? "");
  for (const change of ["freeze", "unfreeze", "close"] as const)
    await assert.rejects(setStatus(change, transit), { code: 9, reason: "ACCOUNT_RESERVED" });
});

test("of a close and 100 credits at once, either the account is closed and empty or it has every credit that was made", async () => {
  for (const payerShard of [1, 2]) {
    const [payer, payee] = [await openFunded(1_000n, {}, payerShard), await openAccount()];
    const [close, ...results] = await Promise.allSettled([
      setStatus("close", payee.accountId),
      ...Array.from({ length: 100 }, () => transfer(payer.accountId, payee.accountId, 1n)),
    ]);
    const made = BigInt(results.filter(({ status }) => status === "fulfilled").length);
    const { status, postedMinorUnits } = await readAccount(payee.accountId);
    assert.equal(postedMinorUnits, made);
    assert.equal(status, close?.status === "fulfilled" ? Account_Status.CLOSED : Account_Status.ACTIVE);
    if (status === Account_Status.CLOSED) assert.equal(made, 0n);
    assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 1_000n - made);
  }
});

test("money held by a hold keeps its account open", async () => {
  const account = await openFunded(5n);
  const { response } = await hold(account.accountId, "system:fees", 5n);
  await assert.rejects(setStatus("close", account.accountId), {
    code: 9,
    reason: "ACCOUNT_HAS_HOLDS",
    metadata: { account_id: account.accountId, held_minor_units: "5" },
  });
  await voidHold(response.holdId);
  await transfer(account.accountId, "system:fees", 5n);
  assert.equal((await setStatus("close", account.accountId)).response.status, Account_Status.CLOSED);
});

test("after all of it balances, statuses and events agree", async () => {
  await assertInvariants();
});
