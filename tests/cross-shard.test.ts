import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId, uuidToId } from "#lib/ids.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { decodePosition } from "#lib/position.ts";
import {
  type Account,
  CreateTransferRequest,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  ledger,
  newKey,
  openAccount,
  openFunded,
  posted,
  postgres,
  setStatus,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

const posting = (debit: Account, credit: Account, amountMinorUnits: bigint) => ({
  debitAccountId: debit.accountId,
  creditAccountId: credit.accountId,
  amountMinorUnits,
  currency: "EUR",
});
const make = (request: Partial<CreateTransferRequest>) =>
  call(ledger, ledger.createTransfer, CreateTransferRequest.fromPartial({ idempotencyKey: newKey(), ...request }));

async function decisionOf({ transferId }: Transfer, shard: number): Promise<string | undefined> {
  const { rows } = await postgres(shard).query<{ state: string }>(
    "select state from ledger.decisions where transfer_id = $1",
    [parseId(transferId)?.uuid],
  );
  return rows[0]?.state;
}

test("money moves to another shard: balances of both sides, a position on each shard, and nothing left open", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount({}, 2)];
  const { response, position } = await transfer(payer.accountId, payee.accountId, 300n, { memo: "rent", type: "rent" });
  assert.equal(response.state, Transfer_State.POSTED);
  assert.deepEqual(response.pendingAccountIds, []);
  assert.deepEqual(
    response.balances.map(({ accountId, postedMinorUnits, version }) => [accountId, postedMinorUnits, version]),
    [
      [payer.accountId, 700n, 3n],
      [payee.accountId, 300n, 2n],
    ],
  );
  assert.deepEqual(
    decodePosition(position ?? "")?.map(({ shard }) => shard),
    [1, 2],
  );
  const [entry] = (
    await call(ledger, ledger.listAccountEntries, { accountId: payee.accountId, pageSize: 1, pageToken: "" })
  ).response.entries;
  assert.deepEqual(
    [entry?.amountMinorUnits, entry?.counterpartyAccountId, entry?.memo, entry?.type, entry?.transferId],
    [300n, payer.accountId, "rent", "rent", response.transferId],
  );
  const read = (await call(ledger, ledger.getTransfer, { transferId: response.transferId })).response;
  assert.deepEqual(read, response);
  await eventually(async () => (await decisionOf(response, 1)) === "CLOSED", "the decision is closed");
});

test("one transfer credits accounts on three shards and the payer's own, all or nothing", async () => {
  const payer = await openFunded(1_000n);
  const [near, second, third] = [await openAccount(), await openAccount({}, 2), await openAccount({}, 3)];
  const { response } = await make({
    postings: [
      posting(payer, second, 10n),
      posting(payer, near, 20n),
      posting(payer, third, 30n),
      posting(payer, second, 5n),
    ],
  });
  assert.deepEqual(await Promise.all([payer, near, second, third].map(posted)), [935n, 20n, 15n, 30n]);
  assert.equal(response.balances.length, 4);

  const dollars = await openAccount({ currency: "USD" }, 3);
  await assert.rejects(make({ postings: [posting(payer, second, 10n), posting(payer, dollars, 1n)] }), {
    code: 9,
    reason: "CURRENCY_MISMATCH",
  });
  await assert.rejects(make({ postings: [posting(payer, second, 10n), posting(payer, third, 926n)] }), {
    code: 9,
    reason: "INSUFFICIENT_FUNDS",
  });
  assert.deepEqual(await Promise.all([payer, near, second, third].map(posted)), [935n, 20n, 15n, 30n]);
});

test("what another shard refuses is refused, remembered under the key, and gives its room back", async () => {
  const [payer, frozen, full] = [await openFunded(100n), await openAccount({}, 2), await openAccount({}, 2)];
  await setStatus("freeze", frozen.accountId);
  const request = transferRequest(payer.accountId, frozen.accountId, 1n);
  await assert.rejects(call(ledger, ledger.createTransfer, request), { code: 9, reason: "ACCOUNT_FROZEN" });
  await setStatus("unfreeze", frozen.accountId);
  await assert.rejects(call(ledger, ledger.createTransfer, request), {
    code: 9,
    reason: "ACCOUNT_FROZEN",
    replayed: true,
  });

  await transfer(`system:vault_${newKey().slice(5)}`, full.accountId, MAX_MINOR_UNITS - 10n);
  await assert.rejects(transfer(payer.accountId, full.accountId, 11n), { code: 9, reason: "BALANCE_OVERFLOW" });
  await assert.rejects(transfer(payer.accountId, full.accountId, 101n), { code: 9, reason: "BALANCE_OVERFLOW" });
  await transfer(payer.accountId, full.accountId, 10n);
  const stranger = await openAccount({}, 2);
  const unknown = stranger.accountId.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
  await assert.rejects(transfer(payer.accountId, unknown, 1n), { code: 5, reason: "ACCOUNT_NOT_FOUND" });
  await eventually(async () => {
    const { rows } = await postgres(2).query(
      "select 1 from ledger.accounts where account_id = any ($1) and prepared_credit_minor_units > 0",
      [[frozen, full].map(({ accountId }) => parseId(accountId)?.uuid)],
    );
    return rows.length === 0;
  }, "no room is kept any more");
});

test("room that is kept for a transfer under way cannot be used by another", async () => {
  const [payer, full] = [await openFunded(100n), await openAccount({}, 2)];
  await transfer(`system:safe_${newKey().slice(5)}`, full.accountId, MAX_MINOR_UNITS - 10n);
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, () => transfer(payer.accountId, full.accountId, 1n)),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 10);
  assert.equal(await posted(full), MAX_MINOR_UNITS);
  assert.equal(await posted(payer), 90n);
});

test("50 identical calls at once make one transfer, and each is told so with the same balances", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount({}, 3)];
  const request = transferRequest(payer.accountId, payee.accountId, 7n);
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.createTransfer, request)));
  assert.equal(new Set(answers.map(({ response }) => response.transferId)).size, 1);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.deepEqual([await posted(payer), await posted(payee)], [993n, 7n]);
  const replay = await call(ledger, ledger.createTransfer, request);
  assert.deepEqual(
    replay.response.balances.map(({ postedMinorUnits }) => postedMinorUnits),
    [993n, 7n],
  );
  await assert.rejects(call(ledger, ledger.createTransfer, { ...request, memo: "another" }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
  await eventually(async () => {
    const { rows } = await postgres(3).query("select state from ledger.remote_legs where credit_account_id = $1", [
      parseId(payee.accountId)?.uuid,
    ]);
    return rows.every(({ state }) => state !== "PREPARED");
  }, "the legs of the 49 others are released");
});

test("200 debits of 100 at once towards two shards on a balance of 10,000: exactly 100 succeed", async () => {
  const [payer, second, third] = [await openFunded(10_000n), await openAccount({}, 2), await openAccount({}, 3)];
  const results = await Promise.allSettled(
    Array.from({ length: 200 }, (_, index) =>
      transfer(payer.accountId, (index % 2 === 0 ? second : third).accountId, 100n),
    ),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 100);
  const [left, at2, at3] = await Promise.all([payer, second, third].map(posted));
  assert.deepEqual([left, (at2 ?? 0n) + (at3 ?? 0n)], [0n, 10_000n]);
});

test("the other shard's system account may be debited, a limited account there may not", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const [source, target] = [await openAccount({}, 2), await openAccount({}, 2)];
  const bonus = {
    debitAccountId: "system:bonus",
    creditAccountId: payee.accountId,
    amountMinorUnits: 5n,
    currency: "EUR",
  };
  await make({ postings: [posting(payer, payee, 10n), bonus] });
  assert.equal(await posted(payee), 15n);
  await assert.rejects(make({ postings: [posting(payer, payee, 10n), posting(source, target, 1n)] }), {
    code: 9,
    reason: "DEBITS_IN_SEVERAL_BUCKETS",
  });
});

test("a posting that is wholly on another shard needs no transit there, and arrives", async () => {
  const [payer, near, far] = [await openFunded(100n), await openAccount(), await openAccount({}, 2)];
  const bonus = { ...posting(payer, far, 5n), debitAccountId: "system:bonus" };
  const { response } = await make({ postings: [posting(payer, near, 10n), bonus] });
  assert.deepEqual(response.pendingAccountIds, []);
  assert.deepEqual(await Promise.all([payer, near, far].map(posted)), [90n, 10n, 5n]);
});

test("the transit account belongs to the protocol: nobody can name it", async () => {
  const payer = await openFunded(100n);
  await assert.rejects(transfer(payer.accountId, "system:transit", 1n), { code: 3, reason: "MALFORMED_REQUEST" });
  await transfer(payer.accountId, (await openAccount({}, 2)).accountId, 1n);
  for (const shard of [1, 2]) {
    const { rows } = await postgres(shard).query<{ account_id: string }>(
      "select account_id from ledger.accounts where reference = 'system:transit' and currency = 'EUR'",
    );
    const transit = uuidToId("acct", rows[0]?.account_id ?? "");
    await assert.rejects(transfer(payer.accountId, transit, 1n), { code: 9, reason: "ACCOUNT_RESERVED" });
  }
});

test("a batch mixes transfers within and between shards, in their order", async () => {
  const [payer, near, far] = [await openAccount(), await openAccount(), await openAccount({}, 2)];
  const items = [
    transferRequest("system:cash", payer.accountId, 100n),
    transferRequest(payer.accountId, far.accountId, 60n),
    transferRequest(payer.accountId, near.accountId, 60n),
    transferRequest(payer.accountId, near.accountId, 40n),
    transferRequest(near.accountId, far.accountId, 40n),
  ];
  const { response } = await call(ledger, ledger.batchCreateTransfers, { transfers: items });
  assert.deepEqual(
    response.results.map(({ outcome }) => outcome?.$case),
    ["transfer", "transfer", "error", "transfer", "transfer"],
  );
  assert.deepEqual(await Promise.all([payer, near, far].map(posted)), [0n, 0n, 100n]);
});

test("an effective time holds on both shards", async () => {
  const [payer, payee] = [await openAccount(), await openAccount({}, 2)];
  const effectiveTime = new Date(Date.UTC(2024, 1, 29, 12));
  await transfer("system:old_cash", payer.accountId, 50n, { effectiveTime });
  const { response } = await transfer(payer.accountId, payee.accountId, 20n, { effectiveTime });
  assert.equal(response.effectiveTime?.getTime(), effectiveTime.getTime());
  const { response: page } = await call(ledger, ledger.listAccountEntries, {
    accountId: payee.accountId,
    pageSize: 1,
    pageToken: "",
  });
  assert.equal(page.entries[0]?.effectiveTime?.getTime(), effectiveTime.getTime());
  await assert.rejects(
    transfer(payer.accountId, payee.accountId, 1n, { effectiveTime: new Date(effectiveTime.getTime() - 1) }),
    { reason: "EFFECTIVE_TIME_NOT_MONOTONIC" },
  );
});

test("after all of it every shard sums to zero and every account is the sum of its entries", async () => {
  await assertInvariants();
});
