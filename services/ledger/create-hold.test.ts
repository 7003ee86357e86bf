import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId, uuidToId } from "#lib/ids.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { decodePosition } from "#lib/position.ts";
import { type Account, Hold_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { balances, hold, holdRequest, readHold, voidHold } from "#tests/holds.ts";
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

const DAY_MS = 24 * 60 * 60 * 1_000;

test("a hold sets money aside: nothing moves, the available balance falls, and nobody else can spend it", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const { response, position, replayed } = await hold(payer.accountId, payee.accountId, 700n);
  assert.equal(parseId(response.holdId, "hold")?.bucket, parseId(payer.accountId)?.bucket);
  const { holdId: _, expireTime, createTime, ...rest } = response;
  assert.deepEqual(rest, {
    debitAccountId: payer.accountId,
    creditAccountId: payee.accountId,
    amountMinorUnits: 700n,
    capturedMinorUnits: 0n,
    remainingMinorUnits: 700n,
    currency: "EUR",
    state: Hold_State.OPEN,
    version: 1n,
  });
  assert.equal((expireTime?.getTime() ?? 0) - (createTime?.getTime() ?? 0), 7 * DAY_MS);
  assert.equal(replayed, false);
  assert.deepEqual(await balances(payer), [1_000n, 700n, 300n]);
  assert.equal((await readAccount(payer.accountId)).version, 3n);
  assert.deepEqual(await balances(payee), [0n, 0n, 0n]);

  const [{ shard, number } = { shard: 0, number: 0n }] = decodePosition(position ?? "") ?? [];
  const { rows } = await postgres(shard).query("select type, aggregate_id from ledger.events where number = $1", [
    number.toString(),
  ]);
  assert.deepEqual(rows, [{ type: "hold_changed", aggregate_id: response.holdId }]);

  for (const spend of [transfer, hold]) {
    await assert.rejects(spend(payer.accountId, payee.accountId, 301n), {
      code: 9,
      reason: "INSUFFICIENT_FUNDS",
      metadata: {
        account_id: payer.accountId,
        available_minor_units: "300",
        floor_minor_units: "0",
        needed_minor_units: "301",
      },
    });
  }
  await transfer(payer.accountId, payee.accountId, 300n);
  assert.deepEqual(await balances(payer), [700n, 700n, 0n]);
});

test("the credit account may be a system account of the payer's shard, or an account on another", async () => {
  const [payer, far] = [await openFunded(100n, {}, 2), await openAccount({}, 3)];
  const { response: fees } = await hold(payer.accountId, "system:fees", 10n);
  assert.equal((await readAccount(fees.creditAccountId)).reference, "system:fees");
  const { rows } = await postgres(2).query("select from ledger.accounts where account_id = $1", [
    parseId(fees.creditAccountId)?.uuid,
  ]);
  assert.equal(rows.length, 1);
  const { response } = await hold(payer.accountId, far.accountId, 10n);
  assert.equal(response.creditAccountId, far.accountId);
  assert.deepEqual(await balances(payer), [100n, 20n, 80n]);
});

test("50 identical calls at once make one hold, and each is told which", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount({}, 2)];
  const request = holdRequest(payer.accountId, payee.accountId, 7n);
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.createHold, request)));
  assert.equal(new Set(answers.map(({ response }) => response.holdId)).size, 1);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  assert.deepEqual(await balances(payer), [1_000n, 7n, 993n]);
});

test("a replay answers the hold as it is now, and the same key with another body is refused", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const request = holdRequest(payer.accountId, payee.accountId, 7n);
  const { response: first } = await call(ledger, ledger.createHold, request);
  await voidHold(first.holdId);
  await setStatus("freeze", payee.accountId);
  const { response: again, replayed } = await call(ledger, ledger.createHold, request);
  assert.ok(replayed);
  assert.deepEqual(again, { ...first, state: Hold_State.VOIDED, remainingMinorUnits: 0n, version: 2n });
  await assert.rejects(call(ledger, ledger.createHold, { ...request, amountMinorUnits: 8n }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
    metadata: { idempotency_key: request.idempotencyKey, resource_type: "hold", resource_name: first.holdId },
  });
});

test("200 holds of 100 at once on a balance of 10,000: exactly 100 succeed", async () => {
  const [payer, near, far] = [await openFunded(10_000n), await openAccount(), await openAccount({}, 2)];
  const results = await Promise.allSettled(
    Array.from({ length: 200 }, (_, index) => hold(payer.accountId, (index % 2 === 0 ? near : far).accountId, 100n)),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 100);
  for (const result of results) {
    if (result.status === "rejected") assert.equal(result.reason.reason, "INSUFFICIENT_FUNDS");
  }
  assert.deepEqual(await balances(payer), [10_000n, 10_000n, 0n]);
});

test("floors: held money may be overdraft, an unbounded account is bounded by 64 bits only", async () => {
  const payee = await openAccount();
  const overdraft = await openAccount({ floor: { $case: "floorMinorUnits", value: -50n } });
  await hold(overdraft.accountId, payee.accountId, 50n);
  await assert.rejects(hold(overdraft.accountId, payee.accountId, 1n), { code: 9, reason: "INSUFFICIENT_FUNDS" });
  const unbounded = await openAccount({ floor: { $case: "unbounded", value: true } });
  await hold(unbounded.accountId, payee.accountId, MAX_MINOR_UNITS);
  await assert.rejects(hold(unbounded.accountId, payee.accountId, 1n), { code: 9, reason: "BALANCE_OVERFLOW" });
  assert.deepEqual(await balances(unbounded), [0n, MAX_MINOR_UNITS, -MAX_MINOR_UNITS]);
});

test("accounts on either side and on any shard must be there, active and in the currency", async () => {
  const [payer, payee, far] = [await openFunded(100n), await openAccount(), await openAccount({}, 2)];
  const [dollars, farDollars] = [await openAccount({ currency: "USD" }), await openAccount({ currency: "USD" }, 2)];
  const [frozen, farFrozen] = [await openFunded(100n), await openAccount({}, 2)];
  for (const account of [frozen, farFrozen]) await setStatus("freeze", account.accountId);
  const nobody = (account: Account) => newId("acct", parseId(account.accountId)?.bucket ?? 0);

  const refused: [debit: string, credit: string, code: number, reason: string][] = [
    [nobody(payer), payee.accountId, 5, "ACCOUNT_NOT_FOUND"],
    [payer.accountId, nobody(payee), 5, "ACCOUNT_NOT_FOUND"],
    [payer.accountId, nobody(far), 5, "ACCOUNT_NOT_FOUND"],
    [dollars.accountId, payee.accountId, 9, "CURRENCY_MISMATCH"],
    [payer.accountId, dollars.accountId, 9, "CURRENCY_MISMATCH"],
    [payer.accountId, farDollars.accountId, 9, "CURRENCY_MISMATCH"],
    [frozen.accountId, payee.accountId, 9, "ACCOUNT_FROZEN"],
    [payer.accountId, frozen.accountId, 9, "ACCOUNT_FROZEN"],
    [payer.accountId, farFrozen.accountId, 9, "ACCOUNT_FROZEN"],
  ];
  for (const [debit, credit, code, reason] of refused) {
    const request = holdRequest(debit, credit, 1n);
    await assert.rejects(call(ledger, ledger.createHold, request), { code, reason, replayed: false });
    // A business refusal is remembered, an id that was wrong is not.
    await assert.rejects(call(ledger, ledger.createHold, request), { code, reason, replayed: code === 9 });
  }
  assert.deepEqual(await balances(payer), [100n, 0n, 100n]);
});

test("the transit account belongs to transfers between shards: no hold can name it", async () => {
  const [payer, far] = [await openFunded(100n), await openAccount({}, 2)];
  await transfer(payer.accountId, far.accountId, 1n);
  for (const shard of [1, 2]) {
    const { rows } = await postgres(shard).query<{ id: string }>(
      "select account_id as id from ledger.accounts where reference = 'system:transit' and currency = 'EUR'",
    );
    const transit = uuidToId("acct", rows[0]?.id ?? "");
    await assert.rejects(hold(payer.accountId, transit, 1n), { code: 9, reason: "ACCOUNT_RESERVED" });
  }
  await assert.rejects(hold(payer.accountId, "system:transit", 1n), { code: 3, fields: ["credit_account_id"] });
});

test("expire_time lies in the future, at most 365 days ahead, by the clock of the shard", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const expiring = (aheadMs: number) =>
    hold(payer.accountId, payee.accountId, 1n, { expireTime: new Date(Date.now() + aheadMs) });
  await assert.rejects(expiring(-1), { code: 9, reason: "EXPIRE_TIME_IN_PAST" });
  await assert.rejects(expiring(365 * DAY_MS + 60_000), { code: 9, reason: "EXPIRE_TIME_TOO_FAR" });
  const { response } = await expiring(365 * DAY_MS - 60_000);
  assert.equal(response.state, Hold_State.OPEN);
});

test("a malformed request names every field, holds nothing, and does not use up its key", async () => {
  const payer = await openFunded(100n);
  const idempotencyKey = newKey();
  const expireTime = new Date(Date.UTC(10_000, 0, 1));
  const bad = holdRequest("system:cash", "system:", 0n, { currency: "eur", expireTime, idempotencyKey });
  await assert.rejects(call(ledger, ledger.createHold, bad), {
    code: 3,
    reason: "MALFORMED_REQUEST",
    fields: ["debit_account_id", "credit_account_id", "amount_minor_units", "currency", "expire_time"],
  });
  await assert.rejects(hold(payer.accountId, payer.accountId, 1n), { code: 3, fields: ["credit_account_id"] });
  await assert.rejects(hold(payer.accountId, "system:fees", -1n), { code: 3, fields: ["amount_minor_units"] });
  const { response: fees } = await hold(payer.accountId, "system:fees", 1n);
  await assert.rejects(hold(fees.creditAccountId, "system:fees", 1n), { code: 3, fields: ["credit_account_id"] });
  await assert.rejects(hold(payer.accountId, "system:fees", 1n, { idempotencyKey: "" }), {
    code: 3,
    reason: "IDEMPOTENCY_KEY_REQUIRED",
  });
  assert.equal((await hold(payer.accountId, "system:fees", 1n, { idempotencyKey })).replayed, false);
  assert.deepEqual(await balances(payer), [100n, 2n, 98n]);
});

test("a hold whose time is over is expired by a worker, and its money is available again", async () => {
  for (const shard of [1, 2, 3]) {
    const [payer, payee] = [await openFunded(100n, {}, shard), await openAccount()];
    const expireTime = new Date(Date.now() + 2_000);
    const { response } = await hold(payer.accountId, payee.accountId, 60n, { expireTime });
    assert.deepEqual(await balances(payer), [100n, 60n, 40n]);
    await eventually(async () => (await readHold(response.holdId)).state === Hold_State.EXPIRED, "the hold is expired");
    assert.deepEqual(await balances(payer), [100n, 0n, 100n]);
    const { remainingMinorUnits, capturedMinorUnits, version } = await readHold(response.holdId);
    assert.deepEqual([remainingMinorUnits, capturedMinorUnits, version], [0n, 0n, 2n]);
    await transfer(payer.accountId, payee.accountId, 100n);
  }
});

test("after all of it what is held of every account is what its open holds have left", async () => {
  await assertInvariants();
});
