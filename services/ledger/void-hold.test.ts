import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePosition } from "#lib/position.ts";
import { Hold_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { balances, capture, hold, readHold, voidHold } from "#tests/holds.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { eventually, newId, newKey, openAccount, openFunded, postgres, readAccount, setStatus } from "#tests/stack.ts";

test("a void gives back what is left, and what was captured stays captured", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const { response: made } = await hold(payer.accountId, payee.accountId, 80n);
  await capture(made.holdId, { amountMinorUnits: 30n });
  const { response, position, replayed } = await voidHold(made.holdId);
  assert.deepEqual(response, {
    ...made,
    capturedMinorUnits: 30n,
    remainingMinorUnits: 0n,
    state: Hold_State.VOIDED,
    version: 3n,
  });
  assert.equal(replayed, false);
  assert.deepEqual(await readHold(made.holdId), response);
  assert.deepEqual(await balances(payer), [70n, 0n, 70n]);
  assert.equal((await readAccount(payer.accountId)).version, 5n);
  const [{ shard, number } = { shard: 0, number: 0n }] = decodePosition(position ?? "") ?? [];
  const { rows } = await postgres(shard).query(
    "select type, aggregate_id, aggregate_version::int as version from ledger.events where number = $1",
    [number.toString()],
  );
  assert.deepEqual(rows, [{ type: "hold_changed", aggregate_id: made.holdId, version: 3 }]);
});

test("50 identical calls at once void once; each is told so with the same position", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const { response: made } = await hold(payer.accountId, payee.accountId, 80n);
  const key = newKey();
  const answers = await Promise.all(Array.from({ length: 50 }, () => voidHold(made.holdId, key)));
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  for (const { response } of answers) assert.deepEqual([response.state, response.version], [Hold_State.VOIDED, 2n]);
  assert.deepEqual(await balances(payer), [100n, 0n, 100n]);
});

test("what is closed stays closed: void after void, after capture and after expiry", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const fresh = async (more = {}) => (await hold(payer.accountId, payee.accountId, 10n, more)).response.holdId;
  const [voided, captured, partly] = [await fresh(), await fresh(), await fresh()];
  const expired = await fresh({ expireTime: new Date(Date.now() + 1_500) });
  await voidHold(voided);
  await capture(captured);
  await capture(partly, { amountMinorUnits: 1n, final: true });
  await eventually(async () => (await readHold(expired)).state === Hold_State.EXPIRED, "the hold is expired");

  for (const [holdId, reason] of [
    [voided, "HOLD_VOIDED"],
    [captured, "HOLD_CAPTURED"],
    [partly, "HOLD_CAPTURED"],
    [expired, "HOLD_EXPIRED"],
  ] as const) {
    const before = await readHold(holdId);
    const key = newKey();
    await assert.rejects(voidHold(holdId, key), { code: 9, reason, replayed: false });
    await assert.rejects(voidHold(holdId, key), { code: 9, reason, replayed: true });
    assert.deepEqual(await readHold(holdId), before);
  }
  assert.deepEqual(await balances(payer), [89n, 0n, 89n]);
});

test("a frozen account's holds may be voided: nothing leaves it", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const { response } = await hold(payer.accountId, payee.accountId, 80n);
  await setStatus("freeze", payer.accountId);
  assert.equal((await voidHold(response.holdId)).response.state, Hold_State.VOIDED);
  assert.deepEqual(await balances(payer), [100n, 0n, 100n]);
});

test("an unknown hold is not found, a malformed call names its field, a key is bound to its hold", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const [first, second] = [
    (await hold(payer.accountId, payee.accountId, 1n)).response.holdId,
    (await hold(payer.accountId, payee.accountId, 1n)).response.holdId,
  ];
  await assert.rejects(voidHold(newId("hold", 7)), { code: 5, reason: "HOLD_NOT_FOUND" });
  await assert.rejects(voidHold(payer.accountId), { code: 3, reason: "MALFORMED_REQUEST", fields: ["hold_id"] });
  await assert.rejects(voidHold(first, ""), { code: 3, reason: "IDEMPOTENCY_KEY_REQUIRED" });
  const key = newKey();
  await voidHold(first, key);
  await assert.rejects(voidHold(second, key), { code: 6, reason: "IDEMPOTENCY_KEY_REUSED" });
  assert.equal((await readHold(second)).state, Hold_State.OPEN);
});

test("after all of it every invariant holds", async () => {
  await assertInvariants();
});
