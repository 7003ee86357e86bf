import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import {
  type Account,
  CaptureHoldRequest,
  Hold_State,
  hold_StateToJSON,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { balances, capture, hold, readHold, voidHold } from "#tests/holds.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  ledger,
  newId,
  newKey,
  openAccount,
  openFunded,
  postgres,
  setStatus,
  transfer,
} from "#tests/stack.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;

/** A payer with 1,000, a payee on a shard, and a hold of so much between them. */
async function held(amountMinorUnits: bigint, more: { payeeShard?: number; lastingMs?: number } = {}) {
  const { payeeShard = 1, lastingMs = DAY_MS } = more;
  const [payer, payee] = [await openFunded(1_000n), await openAccount({}, payeeShard)];
  const expireTime = new Date(Date.now() + lastingMs);
  const { response } = await hold(payer.accountId, payee.accountId, amountMinorUnits, { expireTime });
  return { payer, payee, holdId: response.holdId, expireTime };
}

const posted = async (account: Account) => (await balances(account))[0];
const captureRequest = (holdId: string, more: Partial<CaptureHoldRequest> = {}) =>
  CaptureHoldRequest.fromPartial({ holdId, idempotencyKey: newKey(), ...more });

async function figures(holdId: string) {
  const { state, capturedMinorUnits, remainingMinorUnits } = await readHold(holdId);
  return [hold_StateToJSON(state), capturedMinorUnits, remainingMinorUnits];
}

for (const payeeShard of [1, 2]) {
  const where = payeeShard === 1 ? "on one shard" : "to another shard";

  test(`a capture ${where} is a transfer of what is held: its hold, its texts, the balances after it`, async () => {
    const { payer, payee, holdId } = await held(700n, { payeeShard });
    const texts = { type: "checkout", memo: "cart 7", metadata: { order: "7" } };
    const { response, position } = await capture(holdId, { amountMinorUnits: 200n, ...texts });
    const { transferId, balances: after, state, type, memo, metadata } = response;
    assert.deepEqual({ state, type, memo, metadata }, { state: Transfer_State.POSTED, ...texts });
    assert.equal(response.holdId, holdId);
    assert.deepEqual(response.postings, [
      {
        debitAccountId: payer.accountId,
        creditAccountId: payee.accountId,
        amountMinorUnits: 200n,
        currency: "EUR",
      },
    ]);
    assert.deepEqual(
      after.map(({ accountId, postedMinorUnits, heldMinorUnits, availableMinorUnits, version }) => [
        accountId,
        postedMinorUnits,
        heldMinorUnits,
        availableMinorUnits,
        version,
      ]),
      [
        [payer.accountId, 800n, 500n, 300n, 4n],
        [payee.accountId, 200n, 0n, 200n, 2n],
      ],
    );
    assert.deepEqual(response.pendingAccountIds, []);
    assert.deepEqual(await figures(holdId), ["OPEN", 200n, 500n]);
    assert.deepEqual((await call(ledger, ledger.getTransfer, { transferId })).response, response);

    // Who has seen the transfer's event has seen the hold's as well.
    const [{ shard, number } = { shard: 0, number: 0n }] = decodePosition(position ?? "") ?? [];
    const { rows } = await postgres(shard).query(
      "select type, aggregate_id from ledger.events where number between $1 - 1 and $1 order by number",
      [number.toString()],
    );
    assert.deepEqual(rows, [
      { type: "hold_changed", aggregate_id: holdId },
      { type: "transfer_posted", aggregate_id: transferId },
    ]);
  });

  test(`a hold ${where} is captured several times; the last one, when it is final, gives the rest back`, async () => {
    const { payer, payee, holdId } = await held(700n, { payeeShard });
    await capture(holdId, { amountMinorUnits: 100n });
    await capture(holdId, { amountMinorUnits: 250n });
    assert.deepEqual(await balances(payer), [650n, 350n, 300n]);
    await capture(holdId, { amountMinorUnits: 50n, final: true });
    assert.deepEqual(await figures(holdId), ["CAPTURED", 400n, 0n]);
    assert.deepEqual(await balances(payer), [600n, 0n, 600n]);
    assert.deepEqual(await balances(payee), [400n, 0n, 400n]);
  });

  test(`without an amount a capture ${where} takes all that is left`, async () => {
    const { payer, payee, holdId } = await held(700n, { payeeShard });
    await capture(holdId, { amountMinorUnits: 100n });
    const { response } = await capture(holdId);
    assert.equal(response.postings[0]?.amountMinorUnits, 600n);
    assert.equal(response.type, "capture");
    assert.deepEqual(await figures(holdId), ["CAPTURED", 700n, 0n]);
    assert.deepEqual([await posted(payer), await posted(payee)], [300n, 700n]);
  });

  test(`over-capture ${where} is refused: of the whole, and of what is left`, async () => {
    const { payer, holdId } = await held(700n, { payeeShard });
    const exceeds = (remaining: string, needed: string) => ({
      code: 9,
      reason: "CAPTURE_EXCEEDS_HOLD",
      metadata: { hold_id: holdId, remaining_minor_units: remaining, needed_minor_units: needed },
    });
    await assert.rejects(capture(holdId, { amountMinorUnits: 701n }), exceeds("700", "701"));
    await capture(holdId, { amountMinorUnits: 699n });
    await assert.rejects(capture(holdId, { amountMinorUnits: 2n, final: true }), exceeds("1", "2"));
    assert.deepEqual(await figures(holdId), ["OPEN", 699n, 1n]);
    assert.deepEqual(await balances(payer), [301n, 1n, 300n]);
  });

  test(`capture after the end of a hold ${where} is refused: captured, voided, expired`, async () => {
    const { payer, payee, holdId: captured } = await held(100n, { payeeShard });
    const fresh = async (more = {}) => (await hold(payer.accountId, payee.accountId, 100n, more)).response.holdId;
    const [finished, voided] = [await fresh(), await fresh()];
    const expired = await fresh({ expireTime: new Date(Date.now() + 1_500) });
    await capture(captured);
    await capture(finished, { amountMinorUnits: 1n, final: true });
    await voidHold(voided);
    await eventually(async () => (await readHold(expired)).state === Hold_State.EXPIRED, "the hold is expired");
    const before = await balances(payer);
    for (const [holdId, reason] of [
      [captured, "HOLD_CAPTURED"],
      [finished, "HOLD_CAPTURED"],
      [voided, "HOLD_VOIDED"],
      [expired, "HOLD_EXPIRED"],
    ] as const) {
      for (const amount of [{}, { amountMinorUnits: 1n }, { amountMinorUnits: 101n }]) {
        const request = captureRequest(holdId, amount);
        await assert.rejects(call(ledger, ledger.captureHold, request), { code: 9, reason, replayed: false });
        await assert.rejects(call(ledger, ledger.captureHold, request), { code: 9, reason, replayed: true });
      }
    }
    assert.deepEqual(await balances(payer), before);
    assert.deepEqual(before, [899n, 0n, 899n]);
  });

  test(`a frozen account on either side refuses a capture ${where}, and the hold stays as it was`, async () => {
    const { payer, payee, holdId } = await held(700n, { payeeShard });
    for (const { accountId } of [payer, payee]) {
      await setStatus("freeze", accountId);
      await assert.rejects(capture(holdId, { amountMinorUnits: 1n }), {
        code: 9,
        reason: "ACCOUNT_FROZEN",
        metadata: { account_id: accountId, status: "FROZEN" },
      });
      await setStatus("unfreeze", accountId);
    }
    assert.deepEqual(await figures(holdId), ["OPEN", 0n, 700n]);
    assert.deepEqual(await balances(payer), [1_000n, 700n, 300n]);
    await capture(holdId);
    assert.equal(await posted(payee), 700n);
  });

  test(`an account with a hold cannot be closed; a capture ${where} to one that was is refused, and its void is not`, async () => {
    const { payer, payee, holdId } = await held(1_000n, { payeeShard });
    await assert.rejects(setStatus("close", payer.accountId), { code: 9, reason: "ACCOUNT_HAS_HOLDS" });
    await setStatus("close", payee.accountId);
    await assert.rejects(capture(holdId), { code: 9, reason: "ACCOUNT_CLOSED" });
    assert.deepEqual(await figures(holdId), ["OPEN", 0n, 1_000n]);
    await voidHold(holdId);
    assert.deepEqual(await balances(payer), [1_000n, 0n, 1_000n]);
  });

  test(`50 identical captures at once ${where} make one transfer, answered alike, also when the hold is used up`, async () => {
    const { payee, holdId } = await held(700n, { payeeShard });
    for (const amount of [{ amountMinorUnits: 300n }, {}]) {
      const request = captureRequest(holdId, amount);
      const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.captureHold, request)));
      assert.equal(new Set(answers.map(({ response }) => response.transferId)).size, 1);
      assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
      const again = await call(ledger, ledger.captureHold, request);
      assert.ok(again.replayed);
      assert.deepEqual(again.response.holdId, holdId);
      assert.deepEqual(again.response.balances[0]?.heldMinorUnits, "amountMinorUnits" in amount ? 400n : 0n);
      await assert.rejects(call(ledger, ledger.captureHold, { ...request, memo: "another" }), {
        code: 6,
        reason: "IDEMPOTENCY_KEY_REUSED",
      });
    }
    assert.equal(await posted(payee), 700n);
  });

  test(`parallel captures ${where} never take more than the hold`, async () => {
    const { payer, payee, holdId } = await held(700n, { payeeShard });
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, index) => capture(holdId, { amountMinorUnits: 30n + BigInt(index % 3) * 10n })),
    );
    const taken = results.flatMap((result) => (result.status === "fulfilled" ? [result.value.response] : []));
    const sum = taken.reduce((total, { postings }) => total + (postings[0]?.amountMinorUnits ?? 0n), 0n);
    for (const result of results) {
      if (result.status === "rejected") assert.match(result.reason.reason, /^(CAPTURE_EXCEEDS_HOLD|HOLD_CAPTURED)$/);
    }
    assert.ok(sum <= 700n && sum > 700n - 30n, `${sum} were taken`);
    assert.deepEqual([await posted(payer), await posted(payee)], [1_000n - sum, sum]);
    assert.equal((await readHold(holdId)).capturedMinorUnits, sum);
  });

  test(`a capture of the rest ${where} beside captures in part takes what is then left, or says to try again`, async () => {
    const { payee, holdId } = await held(700n, { payeeShard });
    const results = await Promise.allSettled([
      ...Array.from({ length: 10 }, () => capture(holdId, { amountMinorUnits: 10n })),
      capture(holdId),
    ]);
    for (const result of results) {
      if (result.status === "rejected") assert.match(result.reason.reason, /^(HOLD_CAPTURED|HOLD_CONTENDED)$/);
    }
    if ((await readHold(holdId)).state === Hold_State.OPEN) await capture(holdId);
    assert.deepEqual(await figures(holdId), ["CAPTURED", 700n, 0n]);
    assert.equal(await posted(payee), 700n);
  });

  test(`a capture ${where} racing a void racing expiry: exactly one outcome, and the sums are right`, async () => {
    const races = Array.from({ length: 12 }, async (_, index) => {
      const { payer, payee, holdId, expireTime } = await held(700n, { payeeShard, lastingMs: 1_500 });
      const isSettled = async () => (await readHold(holdId)).state !== Hold_State.OPEN;
      if (index % 2 === 0) await eventually(() => Date.now() > expireTime.getTime() - 10, "its time is nearly over");
      const [captured, voided] = await Promise.allSettled([capture(holdId), voidHold(holdId)]);
      await eventually(isSettled, "the hold is captured, voided or expired");
      const { state } = await readHold(holdId);
      assert.equal(captured.status === "fulfilled", state === Hold_State.CAPTURED);
      assert.equal(voided.status === "fulfilled", state === Hold_State.VOIDED);
      const moved = state === Hold_State.CAPTURED ? 700n : 0n;
      assert.deepEqual(await balances(payer), [1_000n - moved, 0n, 1_000n - moved]);
      assert.equal(await posted(payee), moved);
      for (const result of [captured, voided]) {
        if (result.status === "rejected") {
          const { code, reason } = result.reason;
          assert.deepEqual([code, reason], [9, `HOLD_${hold_StateToJSON(state)}`]);
        }
      }
    });
    await Promise.all(races);
  });
}

test("what is held is not spent by others between authorising and capturing, whatever they try", async () => {
  const { payer, payee, holdId } = await held(1_000n);
  const spending = Promise.allSettled(Array.from({ length: 50 }, () => transfer(payer.accountId, payee.accountId, 1n)));
  const capturing = Promise.all(Array.from({ length: 10 }, () => capture(holdId, { amountMinorUnits: 100n })));
  assert.ok((await spending).every(({ status }) => status === "rejected"));
  await capturing;
  assert.deepEqual([await posted(payer), await posted(payee)], [0n, 1_000n]);
});

test("what a far capture left prepared on the other shard is released when it was refused", async () => {
  const { payee, holdId } = await held(700n, { payeeShard: 3 });
  await Promise.allSettled(Array.from({ length: 20 }, () => capture(holdId, { amountMinorUnits: 100n })));
  await eventually(async () => {
    const { rows } = await postgres(3).query("select state from ledger.remote_legs where credit_account_id = $1", [
      parseId(payee.accountId)?.uuid,
    ]);
    return rows.length > 0 && rows.every(({ state }) => state !== "PREPARED");
  }, "no leg waits any more");
  assert.equal(await posted(payee), 700n);
});

test("an unknown hold is not found, and a malformed capture names every field", async () => {
  const { holdId } = await held(700n);
  await assert.rejects(capture(newId("hold", 7)), { code: 5, reason: "HOLD_NOT_FOUND" });
  const bad = { amountMinorUnits: 0n, type: "No!", memo: "x".repeat(141), metadata: { "": "empty" } };
  await assert.rejects(capture("acct_1", bad), {
    code: 3,
    reason: "MALFORMED_REQUEST",
    fields: ["hold_id", "amount_minor_units", "type", "memo", "metadata"],
  });
  await assert.rejects(capture(holdId, { amountMinorUnits: -1n }), { code: 3, fields: ["amount_minor_units"] });
  await assert.rejects(capture(holdId, { idempotencyKey: "" }), { code: 3, reason: "IDEMPOTENCY_KEY_REQUIRED" });
  assert.deepEqual(await figures(holdId), ["OPEN", 0n, 700n]);
});

test("after all of it every invariant holds on every shard", async () => {
  await assertInvariants();
});
