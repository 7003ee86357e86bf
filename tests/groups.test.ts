// Runs alone: it locks rows from outside, and the shard's queue waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { call, readDetails } from "#lib/grpc-client.ts";
import { bucketOfUuid, parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import {
  type Account,
  type BatchCreateTransfersResponse_Result,
  type CreateTransferRequest,
  type LedgerServiceClient,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { holdUpPosting } from "#tests/hold-up-posting.ts";
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
  readAccount,
  setStatus,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

const FURTHER_GRPC_PORT = 17_641;

const batch = (transfers: CreateTransferRequest[], client: LedgerServiceClient = ledger) =>
  call(client, client.batchCreateTransfers, { transfers });
const results = (transfers: CreateTransferRequest[]) => batch(transfers).then(({ response }) => response.results);
const inGroup = (group: string, ...items: CreateTransferRequest[]) => items.map((item) => ({ ...item, group }));
const pay = (
  payer: Account,
  payee: Account | string,
  amount: bigint,
  more: Parameters<typeof transferRequest>[3] = {},
) => transferRequest(payer.accountId, typeof payee === "string" ? payee : payee.accountId, amount, more);

function reason(result: BatchCreateTransfersResponse_Result | undefined): string {
  return result?.outcome?.$case === "error" ? (readDetails(result.outcome.value).info?.reason ?? "") : "POSTED";
}

function metadataOf(result: BatchCreateTransfersResponse_Result | undefined) {
  return result?.outcome?.$case === "error" ? readDetails(result.outcome.value).info?.metadata : undefined;
}

function made(result: BatchCreateTransfersResponse_Result | undefined): Transfer {
  assert.ok(result?.outcome?.$case === "transfer", `not made: ${reason(result)}`);
  return result.outcome.value;
}

/** Rooms that are kept on a shard for any of the accounts. */
async function preparedOf(shard: number, ...accounts: Account[]): Promise<number> {
  const { rows } = await postgres(shard).query(
    `select 1 from ledger.accounts where account_id = any ($1)
        and (prepared_credit_minor_units > 0 or prepared_debit_minor_units > 0)`,
    [accounts.map(({ accountId }) => parseId(accountId)?.uuid)],
  );
  return rows.length;
}

test("the members of a group are transfers of their own, made in their order among the others of the call", async () => {
  const payer = await openAccount();
  const [middle, payee] = [await openAccount({ ownerId: payer.ownerId }), await openAccount()];
  const items = [
    transferRequest("system:cash", payer.accountId, 100n),
    ...inGroup("order-1", pay(payer, middle, 100n, { memo: "one" }), pay(middle, payee, 60n, { memo: "two" })),
    pay(middle, payee, 41n),
    pay(middle, payee, 40n),
  ];
  const answers = await results(items);
  assert.deepEqual(answers.map(reason), ["POSTED", "POSTED", "POSTED", "INSUFFICIENT_FUNDS", "POSTED"]);
  const [, one, two] = answers.map((answer) => (reason(answer) === "POSTED" ? made(answer) : undefined));
  assert.deepEqual([one?.memo, two?.memo], ["one", "two"]);
  assert.deepEqual(
    two?.balances.map(({ postedMinorUnits, version }) => [postedMinorUnits, version]),
    [
      [40n, 3n],
      [60n, 2n],
    ],
  );
  assert.deepEqual((await call(ledger, ledger.getTransfer, { transferId: one?.transferId ?? "" })).response, one);
  assert.deepEqual(await Promise.all([payer, middle, payee].map(posted)), [0n, 0n, 100n]);
});

test("one member refused: it has its own reason, the others name it, nothing is made, and a replay says the same", async () => {
  const [payer, payee, dollars] = [await openFunded(100n), await openAccount(), await openAccount({ currency: "USD" })];
  const items = [
    ...inGroup("g", pay(payer, payee, 60n), pay(payer, payee, 10n), pay(payer, payee, 31n), pay(payer, payee, 1n)),
    ...inGroup("h", pay(payer, payee, 1n), pay(payer, dollars, 1n)),
    pay(payer, payee, 5n),
  ];
  const expected = [
    ...["GROUP_REFUSED", "GROUP_REFUSED", "INSUFFICIENT_FUNDS", "GROUP_REFUSED"],
    ...["GROUP_REFUSED", "CURRENCY_MISMATCH"],
    "POSTED",
  ];
  const first = await results(items);
  assert.deepEqual(first.map(reason), expected);
  assert.deepEqual(metadataOf(first[3]), {
    member_index: "2",
    member_idempotency_key: items[2]?.idempotencyKey,
    member_reason: "INSUFFICIENT_FUNDS",
  });
  // What the members before it had taken is there again for what the refusal says.
  assert.equal(metadataOf(first[2])?.available_minor_units, "30");
  assert.deepEqual([await posted(payer), await posted(payee)], [95n, 5n]);
  assert.equal((await readAccount(payer.accountId)).version, 3n);

  await transfer("system:cash", payer.accountId, 1_000n);
  const again = await results(items);
  assert.deepEqual(
    again.map(({ outcome }) => outcome),
    first.map(({ outcome }) => outcome),
  );
  assert.ok(again.every(({ replayed }) => replayed));
  assert.equal(await posted(payee), 5n);
});

test("a malformed member or an unknown account refuses the group without using up a key", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const unknown = newId("acct", bucketOfUuid(parseId(payer.accountId)?.uuid as string));
  const good = pay(payer, payee, 1n);
  const bad = pay(payer, payee, 1n);
  const cases: [CreateTransferRequest, string][] = [
    [{ ...bad, memo: "two\nlines" }, "MALFORMED_REQUEST"],
    [{ ...bad, idempotencyKey: "" }, "IDEMPOTENCY_KEY_REQUIRED"],
    [{ ...pay(payer, unknown, 1n), idempotencyKey: bad.idempotencyKey }, "ACCOUNT_NOT_FOUND"],
    [{ ...pay(payer, payer, 1n), idempotencyKey: bad.idempotencyKey }, "MALFORMED_REQUEST"],
  ];
  for (const [item, expected] of cases) {
    const answers = await results(inGroup("g", good, item, pay(payer, payee, 1n)));
    assert.deepEqual(answers.map(reason), ["GROUP_REFUSED", expected, "GROUP_REFUSED"]);
    assert.equal(metadataOf(answers[0])?.member_index, "1");
  }
  assert.equal(await posted(payee), 0n);
  const answers = await results(inGroup("g", good, bad));
  assert.deepEqual(
    answers.map(({ replayed }) => replayed),
    [false, false],
  );
  assert.deepEqual(answers.map(reason), ["POSTED", "POSTED"]);
});

test("a group over three shards is made as a whole, with a position on each, and replayed as it was", async () => {
  const payer = await openFunded(1_000n);
  const [near, second, third] = [await openAccount(), await openAccount({}, 2), await openAccount({}, 3)];
  const items = inGroup(
    "three",
    pay(payer, second, 10n),
    pay(payer, near, 20n),
    pay(payer, third, 30n),
    pay(payer, second, 5n),
    // Wholly on another shard: its own transfer is written beside the others.
    transferRequest("system:bonus", third.accountId, 7n),
  );
  const { response, position } = await batch(items);
  const transfers = response.results.map(made);
  assert.deepEqual(
    transfers.map(({ state, pendingAccountIds }) => [state, pendingAccountIds]),
    transfers.map(() => [Transfer_State.POSTED, []]),
  );
  assert.deepEqual(await Promise.all([payer, near, second, third].map(posted)), [935n, 20n, 15n, 37n]);
  assert.deepEqual(new Set(decodePosition(position ?? "")?.map(({ shard }) => shard)), new Set([1, 2, 3]));
  const bucket = parseId(payer.accountId)?.bucket;
  assert.ok(transfers.every(({ transferId }) => parseId(transferId)?.bucket === bucket));
  for (const one of transfers) {
    assert.deepEqual((await call(ledger, ledger.getTransfer, { transferId: one.transferId })).response, one);
  }
  const again = await batch(items);
  assert.deepEqual(again.response.results.map(made), transfers);
  assert.ok(again.response.results.every(({ replayed }) => replayed));
  await eventually(async () => {
    const { rows } = await postgres(1).query("select state from ledger.decisions where transfer_id = any ($1)", [
      transfers.map(({ transferId }) => parseId(transferId)?.uuid),
    ]);
    return rows.length === 4 && rows.every(({ state }) => state === "CLOSED");
  }, "the decisions of the four between shards are closed");
});

test("a group over three shards that is refused anywhere leaves nothing anywhere, and no room is kept", async () => {
  const [payer, near] = [await openFunded(100n), await openAccount()];
  const [second, third, frozen] = [await openAccount({}, 2), await openAccount({}, 3), await openAccount({}, 3)];
  await setStatus("freeze", frozen.accountId);
  const refused: [CreateTransferRequest[], string[]][] = [
    [
      inGroup("g", pay(payer, second, 50n), pay(payer, third, 50n), pay(payer, near, 1n)),
      ["GROUP_REFUSED", "GROUP_REFUSED", "INSUFFICIENT_FUNDS"],
    ],
    [
      inGroup("g", pay(payer, second, 50n), pay(payer, near, 1n), pay(payer, frozen, 1n)),
      ["GROUP_REFUSED", "GROUP_REFUSED", "ACCOUNT_FROZEN"],
    ],
    [inGroup("g", pay(payer, second, 1n), pay(second, payer, 1n)), ["GROUP_REFUSED", "DEBITS_IN_SEVERAL_BUCKETS"]],
  ];
  for (const [items, expected] of refused) {
    const first = await results(items);
    assert.deepEqual(first.map(reason), expected);
    const again = await results(items);
    assert.deepEqual(
      again.map(({ outcome }) => outcome),
      first.map(({ outcome }) => outcome),
    );
    assert.ok(again.every(({ replayed }) => replayed));
  }
  assert.deepEqual(await Promise.all([payer, near, second, third, frozen].map(posted)), [100n, 0n, 0n, 0n, 0n]);
  await eventually(
    async () => (await preparedOf(2, second)) + (await preparedOf(3, third, frozen)) === 0,
    "no room is kept",
  );
});

test("the limited accounts that a group debits have one owner", async () => {
  const payer = await openFunded(100n);
  const [sibling, stranger] = [await openFunded(100n, { ownerId: payer.ownerId }), await openFunded(100n)];
  const payee = await openAccount();
  const together = await results(inGroup("g", pay(payer, payee, 1n), pay(sibling, payee, 1n)));
  assert.deepEqual(together.map(reason), ["POSTED", "POSTED"]);
  const apart = await results(inGroup("g", pay(payer, payee, 1n), pay(stranger, payee, 1n)));
  assert.deepEqual(apart.map(reason), ["GROUP_REFUSED", "DEBITS_IN_SEVERAL_BUCKETS"]);
  assert.equal(await posted(payee), 2n);
});

test("a key that was used before, alone or in another group, refuses the whole group, which takes no key away", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const [alone, other] = [pay(payer, payee, 1n), pay(payer, payee, 2n)];
  const { response: earlier } = await call(ledger, ledger.createTransfer, alone);
  const refused = await results(inGroup("g", other, alone));
  assert.deepEqual(refused.map(reason), ["GROUP_REFUSED", "IDEMPOTENCY_KEY_REUSED"]);
  assert.equal(metadataOf(refused[1])?.resource_name, earlier.transferId);
  assert.equal(await posted(payee), 1n);
  // Its key was given back.
  assert.equal((await call(ledger, ledger.createTransfer, other)).replayed, false);
  assert.equal(await posted(payee), 3n);
});

test("a key of a group can be used neither alone, nor in a part, another order, another group or with one more", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const [a, b, c] = [pay(payer, payee, 1n), pay(payer, payee, 2n), pay(payer, payee, 3n)];
  const group = await results(inGroup("g", a, b));
  const [first, second] = group.map(made);
  await assert.rejects(call(ledger, ledger.createTransfer, a), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
    metadata: { idempotency_key: a.idempotencyKey, resource_type: "transfer", resource_name: first?.transferId },
  });
  const reused = "IDEMPOTENCY_KEY_REUSED";
  const others: [CreateTransferRequest[], string[]][] = [
    [[a], [reused]],
    [inGroup("g", a), [reused]],
    [inGroup("g", b, a), [reused, reused]],
    [inGroup("h", a, b), [reused, reused]],
    [inGroup("g", a, b, c), [reused, reused, "GROUP_REFUSED"]],
    [inGroup("g", a, { ...b, memo: "other" }), [reused, reused]],
    [inGroup("g", c, b), ["GROUP_REFUSED", reused]],
  ];
  for (const [items, expected] of others) {
    const answers = await results(items);
    assert.deepEqual(answers.map(reason), expected);
    assert.ok(answers.every(({ replayed }) => !replayed));
  }
  assert.equal(metadataOf((await results(inGroup("g", c, b)))[1])?.resource_name, second?.transferId);
  assert.equal(await posted(payee), 3n);
  assert.ok((await results(inGroup("g", a, b))).every(({ replayed }) => replayed));
  assert.equal((await call(ledger, ledger.createTransfer, c)).replayed, false);
});

test("a group of which the retention has left some keys is neither made again nor replayed in part", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const items = inGroup("g", pay(payer, payee, 1n), pay(payer, payee, 2n), pay(payer, payee, 3n));
  await results(items);
  const expire = () =>
    postgres(1).query("delete from ledger.idempotency_keys where key = $1", [items[1]?.idempotencyKey]);
  await expire();
  for (let round = 0; round < 2; round += 1) {
    const answers = await results(items);
    assert.deepEqual(answers.map(reason), ["IDEMPOTENCY_KEY_REUSED", "GROUP_REFUSED", "IDEMPOTENCY_KEY_REUSED"]);
  }
  assert.equal(await posted(payee), 6n);
  assert.equal((await expire()).rowCount, 0, "the free key was taken");
});

test("50 identical calls at once make a group once, within a shard and between shards", async () => {
  for (const shard of [1, 2]) {
    const [payer, payee] = [await openFunded(100n), await openAccount({}, shard)];
    const items = inGroup("g", pay(payer, payee, 30n), pay(payer, payee, 40n));
    const answers = await Promise.all(Array.from({ length: 50 }, () => results(items)));
    assert.deepEqual([await posted(payer), await posted(payee)], [30n, 70n]);
    assert.equal(answers.filter((answer) => answer.every(({ replayed }) => !replayed)).length, 1);
    const ids = answers.map((answer) => answer.map((result) => made(result).transferId).join());
    assert.equal(new Set(ids).size, 1);
  }
});

test("of groups that share a key and come at once, one is made and the others are refused without effect", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const shared = pay(payer, payee, 1n);
  const groups = Array.from({ length: 20 }, () => inGroup("g", pay(payer, payee, 1n), shared, pay(payer, payee, 1n)));
  const answers = await Promise.all([...groups.map(results), results([shared])]);
  const winners = answers.filter((answer) => answer.every((result) => reason(result) === "POSTED"));
  assert.equal(winners.length, 1);
  assert.equal(await posted(payee), BigInt(winners[0]?.length ?? 0));
});

test("a shard that does not answer refuses all of the group, and nothing has moved", async () => {
  const [payer, near, far] = [await openFunded(100n), await openAccount(), await openAccount({}, 2)];
  const items = inGroup("g", pay(payer, near, 1n), pay(payer, far, 2n));
  const holdingUp = await postgres(2).connect();
  try {
    await holdingUp.query("begin");
    await holdingUp.query("select from ledger.accounts where account_id = $1 for update", [
      parseId(far.accountId)?.uuid,
    ]);
    const answers = await results(items);
    assert.deepEqual(answers.map(reason), ["SHARD_TOO_SLOW", "SHARD_TOO_SLOW"]);
  } finally {
    await holdingUp.query("rollback");
    holdingUp.release();
  }
  assert.deepEqual([await posted(payer), await posted(near)], [100n, 0n]);
  await eventually(async () => (await preparedOf(2, far)) === 0, "no room is kept");
  const again = await results(items);
  assert.deepEqual(
    again.map(({ replayed }) => replayed),
    [false, false],
  );
  assert.deepEqual(await Promise.all([payer, near, far].map(posted)), [97n, 1n, 2n]);
});

test("a ledger that is killed right after the commit of a group has made all of it: recovery posts what is elsewhere", async () => {
  const [payer, near, second, third] = [
    await openFunded(100n),
    await openAccount(),
    await openAccount({}, 2),
    await openAccount({}, 3),
  ];
  // The transit accounts are there.
  await results([pay(payer, second, 1n), pay(payer, third, 1n)]);
  const further = await startLedger(FURTHER_GRPC_PORT);
  const items = inGroup("g", pay(payer, second, 10n), pay(payer, near, 20n), pay(payer, third, 30n));
  const { answer, letGo } = await holdUpPosting(payer, second, () => batch(items, further.client));
  try {
    await eventually(async () => (await posted(payer)) === 38n, "the group is decided");
    further.signal("SIGKILL");
    await assert.rejects(answer, { code: 14 });
  } finally {
    await letGo();
  }
  await eventually(async () => (await posted(second)) === 11n && (await posted(third)) === 31n, "the legs are posted");
  const again = await results(items);
  assert.ok(again.every(({ replayed }) => replayed));
  assert.ok(again.map(made).every(({ pendingAccountIds }) => pendingAccountIds.length === 0));
  assert.deepEqual(await Promise.all([payer, near, second, third].map(posted)), [38n, 20n, 11n, 31n]);
});

test("a call of thousands of transfers, most of them in groups: each group as a whole, in order, within and between shards", async () => {
  const payees = [await openAccount(), await openAccount({}, 2), await openAccount({}, 3)];
  for (const [count, shards] of [
    [10_000, 1],
    [1_500, 3],
  ] as const) {
    const payer = await openFunded(20_000n);
    const items: CreateTransferRequest[] = [];
    const refusedGroups = new Set<string>();
    for (let group = 0; items.length < count; group += 1) {
      // Each seventh can not be made, because of its last member; some transfers are in no group.
      const size = Math.min((group % 100) + 1, count - items.length);
      const isRefused = group % 7 === 3;
      const name = group % 5 === 0 && !isRefused ? "" : `group-${group}`;
      if (isRefused) refusedGroups.add(name);
      for (let index = 0; index < size; index += 1) {
        const amount = isRefused && index === size - 1 ? 1_000_000n : 1n;
        items.push({ ...pay(payer, payees[index % shards] as Account, amount), group: name });
      }
    }
    const answers = await results(items);
    const kept = items.map(({ group }) => !refusedGroups.has(group));
    for (const [index, answer] of answers.entries()) {
      const expected = kept[index] ? ["POSTED"] : ["GROUP_REFUSED", "INSUFFICIENT_FUNDS"];
      assert.ok(expected.includes(reason(answer)), `${index}: ${reason(answer)}`);
    }
    // In order: the payer's balance falls by one with every transfer that is made.
    const balances = answers
      .filter((_, index) => kept[index])
      .map((answer) => made(answer).balances.find(({ accountId }) => accountId === payer.accountId)?.postedMinorUnits);
    assert.deepEqual(
      balances,
      Array.from(balances, (_, index) => 19_999n - BigInt(index)),
    );
    assert.ok((await results(items)).every(({ replayed }) => replayed));
    assert.equal(await posted(payer), 20_000n - BigInt(balances.length));
  }
});

test("a group is for batches only, and one that is put together wrongly is refused with the whole call", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const alone = { ...pay(payer, payee, 1n), group: "g" };
  await assert.rejects(call(ledger, ledger.createTransfer, alone), {
    code: 3,
    reason: "MALFORMED_REQUEST",
    fields: ["group"],
  });
  const apart = [...inGroup("g", pay(payer, payee, 1n)), pay(payer, payee, 1n), ...inGroup("g", pay(payer, payee, 1n))];
  await assert.rejects(results(apart), { code: 3, reason: "MALFORMED_REQUEST", fields: ["transfers[2].group"] });
  const many = Array.from({ length: 101 }, () => pay(payer, payee, 1n));
  await assert.rejects(results(inGroup("g", ...many)), { code: 3, fields: ["transfers[100].group"] });
  assert.equal(await posted(payee), 0n);
  // The same keys again: nothing was used up.
  assert.deepEqual(new Set((await results(inGroup("g", ...many.slice(0, 100)))).map(reason)), new Set(["POSTED"]));
  assert.equal(
    (await results([{ ...pay(payer, payee, 1n, { idempotencyKey: newKey() }), group: "only-one" }])).map(reason)[0],
    "INSUFFICIENT_FUNDS",
  );
});

test("after all of it every shard sums to zero and every account is the sum of its entries", async () => {
  await assertInvariants();
});
