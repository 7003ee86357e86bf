import assert from "node:assert/strict";
import { test } from "node:test";
import { type Answer, CallError, call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import {
  type Account,
  CreateTransferRequest,
  ReverseTransferRequest,
  type ReverseTransferResponse,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { convert, quoteOf, setRate } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { startLedger } from "#tests/ledger-process.ts";
import {
  eventually,
  ledger,
  newId,
  newKey,
  openAccount,
  openFunded,
  posted,
  postgres,
  stack,
  transfer,
} from "#tests/stack.ts";

const GRPC_PORT = 17_610;
const UNAVAILABLE = 14;

type Part = [index: number, amountMinorUnits: bigint];

const request = ({ transferId }: Transfer, parts: Part[] = [], more: Partial<ReverseTransferRequest> = {}) =>
  ReverseTransferRequest.fromPartial({
    transferId,
    postings: parts.map(([index, amountMinorUnits]) => ({ index, amountMinorUnits })),
    idempotencyKey: newKey(),
    ...more,
  });
const send = (asked: ReverseTransferRequest, client = ledger) => call(client, client.reverseTransfer, asked);
const reverse = (...args: Parameters<typeof request>) => send(request(...args));

/** The transfers of an answer, all of which were made. */
function made({ response }: Answer<ReverseTransferResponse>): Transfer[] {
  return response.reversals.map(({ outcome }) => {
    assert.equal(outcome?.$case, "transfer");
    return outcome.value;
  });
}

/** Of each result: the sum that was moved, or the reason why not. */
function results({ response }: Answer<ReverseTransferResponse>): (bigint | string)[] {
  return response.reversals.map(({ outcome }) =>
    outcome?.$case === "transfer"
      ? outcome.value.postings.reduce((sum, { amountMinorUnits }) => sum + amountMinorUnits, 0n)
      : (outcome?.value.message ?? "nothing"),
  );
}

async function move(moves: [debit: Account, credit: Account, amountMinorUnits: bigint][]): Promise<Transfer> {
  const postings = moves.map(([debit, credit, amountMinorUnits]) => ({
    debitAccountId: debit.accountId,
    creditAccountId: credit.accountId,
    amountMinorUnits,
    currency: "EUR",
  }));
  const made = await call(
    ledger,
    ledger.createTransfer,
    CreateTransferRequest.fromPartial({ postings, idempotencyKey: newKey() }),
  );
  return made.response;
}

const read = ({ transferId }: Transfer) =>
  call(ledger, ledger.getTransfer, { transferId }).then(({ response }) => response);
const stateOf = async (one: Transfer) => (await read(one)).state;

test("a whole reversal moves the money back, is linked to the original, and leaves it REVERSED", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const original = await move([[payer, payee, 300n]]);
  const asked = request(original, [], { memo: "sorry", metadata: { ticket: "9" } });
  const answer = await send(asked);
  const [reversal] = made(answer);
  assert.ok(reversal !== undefined);
  assert.deepEqual(
    [reversal.state, reversal.type, reversal.memo, reversal.metadata, reversal.reversesTransferId],
    [Transfer_State.POSTED, "reversal", "sorry", { ticket: "9" }, original.transferId],
  );
  assert.deepEqual(reversal.reversesPostingIndexes, [0]);
  assert.deepEqual(reversal.postings, [
    { debitAccountId: payee.accountId, creditAccountId: payer.accountId, amountMinorUnits: 300n, currency: "EUR" },
  ]);
  assert.deepEqual(
    reversal.balances.map(({ accountId, postedMinorUnits }) => [accountId, postedMinorUnits]),
    [
      [payee.accountId, 0n],
      [payer.accountId, 1_000n],
    ],
  );
  assert.deepEqual(await read(reversal), reversal);
  // All of the original is as it was answered, but for its state.
  assert.deepEqual(await read(original), { ...original, state: Transfer_State.REVERSED });
  const replay = await send(asked);
  assert.deepEqual([replay.replayed, replay.response.reversals[0]?.replayed, made(replay)], [true, true, [reversal]]);
  await assert.rejects(send({ ...asked, memo: "another" }), { code: 6, reason: "IDEMPOTENCY_KEY_REUSED" });
});

test("the position of a whole reversal is that of the original's change of state", async () => {
  const [payer, payee] = [await openFunded(1_000n, {}, 2), await openAccount({}, 2)];
  const { position } = await reverse(await move([[payer, payee, 300n]]));
  const [at] = decodePosition(position ?? "") ?? [];
  const { rows } = await postgres(2).query<{ type: string; aggregate_version: string; payload: string }>(
    "select type, aggregate_version, payload from ledger.events where number = $1",
    [at?.number.toString()],
  );
  assert.deepEqual([rows[0]?.type, rows[0]?.aggregate_version], ["transfer_reversed", "2"]);
  const payload = JSON.parse(rows[0]?.payload ?? "{}");
  const { rows: first } = await postgres(2).query(
    "select type from ledger.events where number = $1 and aggregate_id = $2",
    [payload.posted_event_number, payload.transfer_id],
  );
  assert.deepEqual(first, [{ type: "transfer_posted" }]);
});

test("parts are taken back one after the other, until nothing is left", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openFunded(500n)];
  const original = await move([[payer, payee, 300n]]);
  assert.deepEqual(results(await reverse(original, [[0, 100n]])), [100n]);
  await assert.rejects(reverse(original, [[0, 201n]]), {
    code: 9,
    reason: "REFUND_EXCEEDS_REMAINDER",
    metadata: {
      transfer_id: original.transferId,
      posting_index: "0",
      remaining_minor_units: "200",
      asked_minor_units: "201",
    },
  });
  assert.deepEqual(results(await reverse(original, [[0, 50n]])), [50n]);
  assert.equal(await stateOf(original), Transfer_State.POSTED);
  assert.deepEqual(results(await reverse(original)), [150n]);
  assert.equal(await stateOf(original), Transfer_State.REVERSED);
  const tooLate = request(original, [], {});
  await assert.rejects(send(tooLate), { code: 9, reason: "ALREADY_REVERSED", replayed: false });
  await assert.rejects(send(tooLate), { code: 9, reason: "ALREADY_REVERSED", replayed: true });
  await assert.rejects(reverse(original, [[0, 1n]]), { code: 9, reason: "REFUND_EXCEEDS_REMAINDER" });
  assert.deepEqual([await posted(payer), await posted(payee)], [1_000n, 500n]);
});

test("more than was credited is refused at once", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openFunded(500n)];
  const original = await move([[payer, payee, 300n]]);
  await assert.rejects(reverse(original, [[0, 301n]]), { code: 9, reason: "REFUND_EXCEEDS_REMAINDER" });
  assert.equal(await posted(payee), 800n);
});

test("a reversal and a conversion cannot be taken back, and a replay says so as well", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const [reversal] = made(await reverse(await move([[payer, payee, 300n]])));
  assert.ok(reversal !== undefined);
  const asked = request(reversal, [[0, 1n]]);
  await assert.rejects(send(asked), {
    code: 9,
    reason: "REVERSAL_OF_REVERSAL",
    metadata: { transfer_id: reversal.transferId, reverses_transfer_id: reversal.reversesTransferId },
    replayed: false,
  });
  await assert.rejects(send(asked), { code: 9, reason: "REVERSAL_OF_REVERSAL", replayed: true });
  await assert.rejects(reverse(reversal), { code: 9, reason: "REVERSAL_OF_REVERSAL" });

  await setRate("EUR", "PHP", "64.2");
  const quote = await quoteOf("EUR", "PHP", { sell: 100n });
  const pesos = await openAccount({ currency: "PHP" });
  const { response: conversion } = await convert(quote.quoteId, payer.accountId, pesos.accountId);
  await assert.rejects(reverse(conversion), {
    code: 9,
    reason: "CONVERSION_NOT_REVERSIBLE",
    metadata: { transfer_id: conversion.transferId, quote_id: quote.quoteId },
  });
});

test("what is not there or makes no sense is refused with its field, and may be corrected under the same key", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const original = await move([[payer, payee, 300n]]);
  const unknown = newId("xfer", 1);
  await assert.rejects(reverse({ ...original, transferId: unknown }), {
    code: 5,
    reason: "TRANSFER_NOT_FOUND",
    metadata: { transfer_id: unknown },
  });
  await assert.rejects(
    reverse(original, [
      [0, 1n],
      [1, 1n],
    ]),
    {
      code: 5,
      reason: "POSTING_NOT_FOUND",
      metadata: { transfer_id: original.transferId, posting_index: "1", postings: "1", field: "postings[1].index" },
      fields: ["postings[1].index"],
    },
  );
  const malformed: [ReverseTransferRequest, string][] = [
    [request({ ...original, transferId: "xfer_1" }), "transfer_id"],
    [request(original, [[-1, 1n]]), "postings[0].index"],
    [request(original, [[0, 0n]]), "postings[0].amount_minor_units"],
    [request(original, [[0, -1n]]), "postings[0].amount_minor_units"],
    [
      request(original, [
        [0, 1n],
        [0, 1n],
      ]),
      "postings[1].index",
    ],
    [
      request(
        original,
        Array.from({ length: 101 }, (_, index): Part => [index, 1n]),
      ),
      "postings",
    ],
    [request(original, [], { type: "Refund!" }), "type"],
    [request(original, [], { memo: "x".repeat(141) }), "memo"],
    [request(original, [], { metadata: { "": "x" } }), "metadata"],
  ];
  const idempotencyKey = newKey();
  for (const [asked, field] of malformed) {
    await assert.rejects(send({ ...asked, idempotencyKey }), { code: 3, reason: "MALFORMED_REQUEST", fields: [field] });
  }
  await assert.rejects(reverse(original, [], { idempotencyKey: "" }), { code: 3, reason: "IDEMPOTENCY_KEY_REQUIRED" });
  assert.deepEqual(results(await reverse(original, [], { idempotencyKey })), [300n]);
});

test("the order of postings and metadata does not make another request", async () => {
  const payer = await openFunded(1_000n);
  const payee = await openAccount();
  const original = await move([
    [payer, payee, 100n],
    [payer, payee, 200n],
  ]);
  const asked = request(
    original,
    [
      [1, 20n],
      [0, 10n],
    ],
    { metadata: { a: "1", b: "2" } },
  );
  const [first] = made(await send(asked));
  assert.deepEqual(
    first?.postings.map(({ amountMinorUnits }) => amountMinorUnits),
    [10n, 20n],
  );
  const again = await send({ ...asked, postings: asked.postings.toReversed(), metadata: { b: "2", a: "1" } });
  assert.deepEqual([again.replayed, made(again)], [true, [first]]);
});

for (const [from, to] of [
  [1, 2],
  [2, 1],
] as const) {
  test(`between shards, from ${from} to ${to}: in part, all that is left, and the original is REVERSED`, async () => {
    const [payer, payee] = [await openFunded(1_000n, {}, from), await openAccount({}, to)];
    const original = await move([[payer, payee, 300n]]);
    const [part] = made(await reverse(original, [[0, 120n]]));
    assert.deepEqual(
      part?.balances.map(({ accountId, postedMinorUnits }) => [accountId, postedMinorUnits]),
      [
        [payee.accountId, 180n],
        [payer.accountId, 820n],
      ],
    );
    assert.deepEqual([part?.pendingAccountIds, await stateOf(original)], [[], Transfer_State.POSTED]);
    const asked = request(original);
    const rest = await send(asked);
    assert.deepEqual(results(rest), [180n]);
    assert.deepEqual([await posted(payer), await posted(payee)], [1_000n, 0n]);
    assert.equal(await stateOf(original), Transfer_State.REVERSED);
    // Nothing is left now; the key has its first answer all the same.
    const replay = await send(asked);
    assert.deepEqual([replay.replayed, results(replay)], [true, [180n]]);
    await assert.rejects(reverse(original), { code: 9, reason: "ALREADY_REVERSED" });
    await assert.rejects(reverse(original, [[0, 1n]]), { code: 9, reason: "REFUND_EXCEEDS_REMAINDER" });
  });
}

test("of a transfer over three shards each credited bucket has its own result, and REVERSED waits for the last", async () => {
  const payer = await openFunded(1_000n);
  const [near, second, third] = [await openAccount(), await openAccount({}, 2), await openAccount({}, 3)];
  const original = await move([
    [payer, second, 100n],
    [payer, near, 10n],
    [payer, third, 40n],
    [payer, second, 5n],
  ]);
  await transfer(third.accountId, near.accountId, 1n);
  const first = await reverse(original);
  assert.equal(first.replayed, false);
  const [ofSecond, ofNear, ofThird] = results(first);
  assert.deepEqual([ofSecond, ofNear], [105n, 10n]);
  assert.match(String(ofThird), /39 minor units available/);
  assert.deepEqual(await Promise.all([payer, near, second, third].map(posted)), [960n, 1n, 0n, 39n]);
  assert.equal(await stateOf(original), Transfer_State.POSTED);

  await transfer(near.accountId, third.accountId, 1n);
  // The other two have nothing left, and are left out.
  assert.deepEqual(results(await reverse(original)), [40n]);
  assert.equal(await stateOf(original), Transfer_State.REVERSED);
  assert.equal(await posted(payer), 1_000n);
});

test("postings of one transfer are taken back by their index, each up to its own amount", async () => {
  const payer = await openFunded(1_000n);
  const [near, far] = [await openAccount(), await openAccount({}, 3)];
  const original = await move([
    [payer, far, 100n],
    [payer, near, 10n],
    [payer, far, 5n],
  ]);
  const answer = await reverse(original, [
    [0, 60n],
    [2, 6n],
    [1, 4n],
  ]);
  assert.match(String(results(answer)[0]), /Of posting 2 .* 5 minor units are left/);
  assert.deepEqual(results(answer)[1], 4n);
  assert.deepEqual(
    results(
      await reverse(original, [
        [0, 60n],
        [2, 5n],
        [1, 6n],
      ]),
    ),
    [65n, 6n],
  );
  const rest = made(await reverse(original));
  assert.deepEqual(
    rest.map(({ postings, reversesPostingIndexes }) => [
      postings.map(({ amountMinorUnits }) => amountMinorUnits),
      reversesPostingIndexes,
    ]),
    [[[40n], [0]]],
  );
  assert.equal(await stateOf(original), Transfer_State.REVERSED);
  assert.deepEqual(await Promise.all([payer, near, far].map(posted)), [1_000n, 0n, 0n]);
});

test("money that came from a system account of the other shard goes back to it", async () => {
  const payee = await openAccount({}, 2);
  const { response: original } = await transfer("system:cash", payee.accountId, 70n);
  assert.deepEqual(results(await reverse(original, [[0, 20n]])), [20n]);
  assert.equal(await posted(payee), 50n);
  // A fee: the credited account is the system's, and has no floor.
  const { response: fee } = await transfer(payee.accountId, "system:fees", 50n);
  assert.deepEqual(results(await reverse(fee)), [50n]);
  assert.equal(await posted(payee), 50n);
});

test("the accounts must allow it: what is spent, frozen or closed is refused with its reason and remembered", async () => {
  const [payer, payee, other] = [await openFunded(300n), await openAccount({}, 2), await openAccount({}, 2)];
  const original = await move([[payer, payee, 300n]]);
  await transfer(payee.accountId, other.accountId, 1n);
  const asked = request(original, [[0, 300n]]);
  const available = {
    account_id: payee.accountId,
    available_minor_units: "299",
    floor_minor_units: "0",
    needed_minor_units: "300",
  };
  await assert.rejects(send(asked), { code: 9, reason: "INSUFFICIENT_FUNDS", metadata: available });
  await transfer(other.accountId, payee.accountId, 1n);
  await assert.rejects(send(asked), { code: 9, reason: "INSUFFICIENT_FUNDS", replayed: true });

  const change = ({ accountId }: Account) => ({ accountId, reason: "", idempotencyKey: newKey() });
  const refusedBy = ({ accountId }: Account, status: string) => ({
    code: 9,
    reason: `ACCOUNT_${status}`,
    metadata: { account_id: accountId, status },
  });
  await call(ledger, ledger.freezeAccount, change(payee));
  await assert.rejects(reverse(original), refusedBy(payee, "FROZEN"));
  await call(ledger, ledger.unfreezeAccount, change(payee));
  await call(ledger, ledger.freezeAccount, change(payer));
  await assert.rejects(reverse(original), refusedBy(payer, "FROZEN"));
  await call(ledger, ledger.unfreezeAccount, change(payer));
  await call(ledger, ledger.closeAccount, change(payer));
  await assert.rejects(reverse(original), refusedBy(payer, "CLOSED"));
  const onwards = await move([[payee, other, 300n]]);
  await transfer(other.accountId, "system:cash", 300n);
  await call(ledger, ledger.closeAccount, change(other));
  await assert.rejects(reverse(onwards), refusedBy(other, "CLOSED"));
});

for (const shard of [1, 2]) {
  test(`50 identical calls at once take it back once; the payee is on shard ${shard}`, async () => {
    const [payer, payee] = [await openFunded(1_000n), await openFunded(1_000n, {}, shard)];
    const original = await move([[payer, payee, 300n]]);
    for (const [asked, amount] of [
      [request(original, [[0, 7n]]), 7n],
      [request(original), 293n],
    ] as const) {
      const before = await posted(payee);
      const answers = await Promise.all(Array.from({ length: 50 }, () => send(asked)));
      const ids = answers.flatMap((answer) => made(answer).map(({ transferId }) => transferId));
      assert.deepEqual([ids.length, new Set(ids).size], [50, 1]);
      assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
      assert.equal(before - (await posted(payee)), amount);
    }
    assert.equal(await stateOf(original), Transfer_State.REVERSED);
  });

  test(`50 callers of two ledgers never take back more than was credited; the payee is on shard ${shard}`, async (t) => {
    const further = await startLedger(GRPC_PORT + shard);
    t.after(() => further.signal("SIGTERM"));
    const [payer, payee] = [await openFunded(1_000n), await openFunded(1_000n, {}, shard)];
    const original = await move([[payer, payee, 500n]]);
    let made = 0;
    const caller = async (_: unknown, index: number) => {
      const client = index % 2 === 0 ? ledger : further.client;
      for (let calls = 0; calls < 500; calls += 1) {
        try {
          await send(request(original, [[0, 3n]]), client);
          made += 1;
        } catch (error) {
          assert.ok(error instanceof CallError, String(error));
          // Both ledgers want the same accounts: one may have to go first.
          if (error.code === UNAVAILABLE && error.reason !== "") continue;
          assert.equal(error.reason, "REFUND_EXCEEDS_REMAINDER");
          return;
        }
      }
      assert.fail("the refunds do not end");
    };
    await Promise.all(Array.from({ length: 50 }, caller));
    // 166 x 3 = 498, and 2 are left.
    assert.deepEqual([made, await posted(payer), await posted(payee)], [166, 998n, 1_002n]);
    assert.deepEqual(results(await reverse(original)), [2n]);
    assert.equal(await stateOf(original), Transfer_State.REVERSED);
  });
}

test("whole reversals among partial ones take exactly what is left", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openFunded(1_000n)];
  const original = await move([[payer, payee, 300n]]);
  const answers = await Promise.allSettled(
    Array.from({ length: 30 }, (_, index) => reverse(original, index % 10 === 5 ? [] : [[0, 1n]])),
  );
  const taken = answers.flatMap((answer) => (answer.status === "fulfilled" ? results(answer.value) : []));
  assert.equal(
    taken.reduce((sum: bigint, amount) => sum + BigInt(amount), 0n),
    300n,
  );
  assert.deepEqual([await posted(payer), await posted(payee)], [1_000n, 1_000n]);
});

test("a credit that has not arrived yet cannot be taken back, and can as soon as it has", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openFunded(1_000n, {}, 2)];
  const original = await move([[payer, payee, 300n]]);
  const uuid = parseId(original.transferId)?.uuid;
  // As if the other shard had not posted its leg: only the state of the row is looked at.
  const setLeg = (state: string) =>
    postgres(2).query("update ledger.remote_legs set state = $2, prepared_at = now() where transfer_id = $1", [
      uuid,
      state,
    ]);
  await setLeg("PREPARED");
  const asked = request(original);
  try {
    await assert.rejects(send(asked), {
      code: 14,
      reason: "TRANSFER_STILL_PROCESSING",
      metadata: { transfer_id: original.transferId },
      replayed: false,
    });
  } finally {
    await setLeg("POSTED");
  }
  assert.deepEqual(results(await send(asked)), [300n]);
});

test("what a shard that is away has to take back is left, and the same call goes on with it later", async (t) => {
  const payer = await openFunded(1_000n);
  const [second, third] = [await openAccount({}, 2), await openAccount({}, 3)];
  const original = await move([
    [payer, second, 100n],
    [payer, third, 40n],
  ]);
  const nowhere = stack.shards.with(2, "postgres://ledger@127.0.0.1:1/ledgermesh");
  const further = await startLedger(GRPC_PORT, nowhere);
  t.after(() => further.signal("SIGTERM"));
  const asked = request(original);
  const first = await send(asked, further.client);
  assert.deepEqual(
    first.response.reversals.map(({ outcome }) => outcome?.$case),
    ["transfer", "error"],
  );
  assert.match(String(results(first)[1]), /Shard 3 does not answer/);
  assert.equal(await stateOf(original), Transfer_State.POSTED);
  const again = await send(asked);
  assert.deepEqual(
    [again.replayed, again.response.reversals.map(({ replayed }) => replayed), results(again)],
    [false, [true, false], [100n, 40n]],
  );
  assert.equal(await stateOf(original), Transfer_State.REVERSED);
});

test("afterwards all sums are right, and every exhausted posting is noted", async () => {
  await eventually(async () => {
    const open = await Promise.all(
      [1, 2, 3].map((shard) =>
        postgres(shard).query("select 1 from ledger.refunded_postings where state = 'EXHAUSTED'"),
      ),
    );
    return open.every(({ rows }) => rows.length === 0);
  }, "every exhausted posting is noted");
  await assertInvariants();
});
