// Runs alone: it locks rows from outside, and the shard's queue waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallError, call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import { Account_Status, FreezeAccountRequest, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  ledger,
  newId,
  newKey,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  setStatus,
  transfer,
} from "#tests/stack.ts";

const requestFor = (accountId: string, more: Partial<FreezeAccountRequest> = {}) =>
  FreezeAccountRequest.fromPartial({ accountId, idempotencyKey: newKey(), ...more });

const eventNumber = (position: string | undefined) => decodePosition(position ?? "")?.[0]?.number ?? 0n;

test("a frozen account takes neither debits nor credits, from its own shard or another", async () => {
  const [near, far, frozen] = [await openFunded(100n), await openFunded(100n, {}, 2), await openFunded(100n)];
  const { response, position } = await call(
    ledger,
    ledger.freezeAccount,
    requestFor(frozen.accountId, { reason: "fraud case 7" }),
  );
  assert.deepEqual([response.status, response.version, response.postedMinorUnits], [Account_Status.FROZEN, 3n, 100n]);
  assert.deepEqual(await readAccount(frozen.accountId), response);
  for (const other of [near, far]) {
    await assert.rejects(transfer(other.accountId, frozen.accountId, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
    await assert.rejects(transfer(frozen.accountId, other.accountId, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
  }
  const { rows } = await postgres(1).query(
    "select type, aggregate_id, aggregate_version, payload from ledger.events where number = $1",
    [eventNumber(position).toString()],
  );
  assert.deepEqual(
    [rows[0].type, rows[0].aggregate_id, rows[0].aggregate_version],
    ["account_changed", frozen.accountId, "3"],
  );
  assert.equal(JSON.parse(rows[0].payload).reason, "fraud case 7");
});

test("50 identical calls at once freeze once: one event, and the same position for everybody", async () => {
  const account = await openAccount();
  const request = requestFor(account.accountId);
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.freezeAccount, request)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  assert.ok(answers.every(({ response }) => response.status === Account_Status.FROZEN && response.version === 2n));
});

test("a replay answers the account as it is now, and does not freeze it again", async () => {
  const account = await openAccount();
  const request = requestFor(account.accountId);
  const { position } = await call(ledger, ledger.freezeAccount, request);
  await setStatus("unfreeze", account.accountId);
  const again = await call(ledger, ledger.freezeAccount, request);
  assert.deepEqual([again.replayed, again.position, again.response.status], [true, position, Account_Status.ACTIVE]);
});

test("a refusal is remembered; the same key with another body, of another account of the bucket too, is refused", async () => {
  const account = await openAccount();
  const sibling = await openAccount({ ownerId: account.ownerId });
  const request = requestFor(account.accountId);
  await call(ledger, ledger.freezeAccount, request);
  await assert.rejects(call(ledger, ledger.freezeAccount, { ...request, reason: "other" }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
  await assert.rejects(call(ledger, ledger.freezeAccount, { ...request, accountId: sibling.accountId }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
  const second = requestFor(account.accountId);
  await assert.rejects(call(ledger, ledger.freezeAccount, second), {
    code: 9,
    reason: "ACCOUNT_FROZEN",
    replayed: false,
  });
  await setStatus("unfreeze", account.accountId);
  await assert.rejects(call(ledger, ledger.freezeAccount, second), {
    code: 9,
    reason: "ACCOUNT_FROZEN",
    replayed: true,
  });
  assert.equal((await readAccount(account.accountId)).status, Account_Status.ACTIVE);
});

test("what is no account, or no reason, is refused with its field and does not use up the key", async () => {
  const request = requestFor("acct_1");
  await assert.rejects(call(ledger, ledger.freezeAccount, request), { code: 3, fields: ["account_id"] });
  const account = await openAccount();
  for (const reason of ["x".repeat(141), "two\nlines"])
    await assert.rejects(call(ledger, ledger.freezeAccount, { ...request, accountId: account.accountId, reason }), {
      code: 3,
      fields: ["reason"],
    });
  await assert.rejects(call(ledger, ledger.freezeAccount, requestFor(account.accountId, { idempotencyKey: "" })), {
    code: 3,
    reason: "IDEMPOTENCY_KEY_REQUIRED",
  });
  const unknown = requestFor(newId("acct", 3));
  await assert.rejects(call(ledger, ledger.freezeAccount, unknown), { code: 5, reason: "ACCOUNT_NOT_FOUND" });
  const { replayed } = await call(ledger, ledger.freezeAccount, { ...request, accountId: account.accountId });
  assert.equal(replayed, false);
});

test("of a freeze and 100 transfers at once, every transfer is made before it or refused after it", async () => {
  for (const payeeShard of [1, 2]) {
    const [payer, payee] = [await openFunded(1_000n), await openAccount({}, payeeShard)];
    const transfers = (count: number) =>
      Array.from({ length: count }, () => transfer(payer.accountId, payee.accountId, 1n));
    const before = transfers(50);
    // Some are in a batch already.
    await Promise.race(before);
    const [freeze, results] = await Promise.all([
      call(ledger, ledger.freezeAccount, requestFor(payer.accountId)),
      Promise.allSettled([...before, ...transfers(50)]),
    ]);
    let made = 0n;
    for (const result of results) {
      if (result.status === "fulfilled") {
        made += 1n;
        assert.equal(result.value.response.state, Transfer_State.POSTED);
        assert.ok(eventNumber(result.value.position) < eventNumber(freeze.position), "a transfer after the freeze");
      } else {
        assert.ok(result.reason instanceof CallError);
        assert.deepEqual([result.reason.code, result.reason.reason], [9, "ACCOUNT_FROZEN"]);
      }
    }
    assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 1_000n - made);
    assert.equal((await readAccount(payee.accountId)).postedMinorUnits, made);
    assert.equal(freeze.response.postedMinorUnits, 1_000n - made);
    assert.ok(made > 0n);
  }
});

test("a leg that is prepared is posted, whatever freezes its account meanwhile; until then the account cannot be closed", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const holdingUp = await postgres(1).connect();
  let made: ReturnType<typeof transfer>;
  try {
    // The decision waits for the payer's row.
    await holdingUp.query("begin");
    await holdingUp.query("select from ledger.accounts where account_id = $1 for update", [
      parseId(payer.accountId)?.uuid,
    ]);
    made = transfer(payer.accountId, payee.accountId, 30n);
    await eventually(async () => {
      const { rows } = await postgres(2).query(
        "select 1 from ledger.remote_legs where credit_account_id = $1 and state = 'PREPARED'",
        [parseId(payee.accountId)?.uuid],
      );
      return rows.length === 1;
    }, "the leg is prepared");
    const refusal = {
      code: 9,
      reason: "ACCOUNT_HAS_TRANSFERS_UNDER_WAY",
      metadata: { account_id: payee.accountId, prepared_debit_minor_units: "0", prepared_credit_minor_units: "30" },
    };
    await assert.rejects(setStatus("close", payee.accountId), refusal);
    await setStatus("freeze", payee.accountId);
    await assert.rejects(setStatus("close", payee.accountId), refusal);
  } finally {
    await holdingUp.query("rollback");
    holdingUp.release();
  }
  const { response } = await made;
  assert.deepEqual([response.state, response.pendingAccountIds], [Transfer_State.POSTED, []]);
  const after = await readAccount(payee.accountId);
  assert.deepEqual([after.status, after.postedMinorUnits, after.version], [Account_Status.FROZEN, 30n, 3n]);
  await assert.rejects(transfer(payer.accountId, payee.accountId, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
  await assert.rejects(setStatus("close", payee.accountId), { code: 9, reason: "ACCOUNT_NOT_EMPTY" });
});

test("after all of it balances, statuses and events agree", async () => {
  await assertInvariants();
});
