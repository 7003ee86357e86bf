import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import { CreateTransferRequest, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  ledger,
  newId,
  newKey,
  newOwner,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  setStatus,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

test("a transfer answers with its postings, the balances after it and a position", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const { response, position, replayed } = await transfer(payer.accountId, payee.accountId, 300n);
  assert.equal(response.state, Transfer_State.POSTED);
  assert.equal(response.type, "transfer");
  assert.equal(parseId(response.transferId, "xfer")?.bucket, parseId(payer.accountId)?.bucket);
  const balances = response.balances.map(({ accountId, availableMinorUnits, version }) => [
    accountId,
    availableMinorUnits,
    version,
  ]);
  assert.deepEqual(balances, [
    [payer.accountId, 700n, 3n],
    [payee.accountId, 300n, 2n],
  ]);
  assert.deepEqual(
    decodePosition(position ?? "")?.map(({ shard }) => shard),
    [1],
  );
  assert.equal(replayed, false);
});

test("what is written: a transfer, two entries with running balances, a key and one event, all of one transaction", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const { response, position } = await transfer(payer.accountId, payee.accountId, 300n);
  const uuid = parseId(response.transferId)?.uuid;
  const { rows } = await postgres(1).query(
    `select (select array_agg(array[amount_minor_units, balance_after_minor_units, sequence] order by amount_minor_units)
               from ledger.entries where transfer_id = $1) as entries,
            (select count(*)::int from ledger.idempotency_keys where resource_id = $1) as keys,
            (select array_agg(number::text) from ledger.events where aggregate_id = $2) as events,
            (select count(distinct xmin::text)::int from (select xmin from ledger.entries where transfer_id = $1
               union all select xmin from ledger.transfers where transfer_id = $1
               union all select xmin from ledger.idempotency_keys where resource_id = $1
               union all select xmin from ledger.events where aggregate_id = $2) x) as transactions`,
    [uuid, response.transferId],
  );
  assert.deepEqual(rows[0].entries, [
    ["-300", "700", "2"],
    ["300", "300", "1"],
  ]);
  assert.deepEqual([rows[0].keys, rows[0].transactions], [1, 1]);
  assert.deepEqual(rows[0].events, [decodePosition(position ?? "")?.[0]?.number.toString()]);
});

test("several postings are made together, and the versions rise once", async () => {
  const [payer, shop, fees] = [await openFunded(1_000n), await openAccount(), await openAccount()];
  const posting = (creditAccountId: string, amountMinorUnits: bigint) => ({
    debitAccountId: payer.accountId,
    creditAccountId,
    amountMinorUnits,
    currency: "EUR",
  });
  const request = CreateTransferRequest.fromPartial({
    postings: [posting(shop.accountId, 90n), posting(fees.accountId, 10n)],
    idempotencyKey: newKey(),
  });
  const { response } = await call(ledger, ledger.createTransfer, request);
  assert.deepEqual(
    response.balances.map(({ postedMinorUnits, version }) => [postedMinorUnits, version]),
    [
      [900n, 3n],
      [90n, 2n],
      [10n, 2n],
    ],
  );

  const tooMuch = {
    ...request,
    postings: [posting(shop.accountId, 890n), posting(fees.accountId, 20n)],
    idempotencyKey: newKey(),
  };
  await assert.rejects(call(ledger, ledger.createTransfer, tooMuch), { code: 9, reason: "INSUFFICIENT_FUNDS" });
  assert.equal((await readAccount(shop.accountId)).postedMinorUnits, 90n);
});

test("200 debits of 100 at once on a balance of 10,000: exactly 100 succeed", async () => {
  const [payer, payee] = [await openFunded(10_000n), await openAccount()];
  const results = await Promise.allSettled(
    Array.from({ length: 200 }, () => transfer(payer.accountId, payee.accountId, 100n)),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 100);
  for (const result of results) {
    if (result.status === "rejected") assert.equal(result.reason.reason, "INSUFFICIENT_FUNDS");
  }
  assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 0n);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 10_000n);
});

test("50 identical calls at once make one transfer and get the same answer", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.createTransfer, request)));
  for (const { response, position } of answers) {
    assert.deepEqual(response, answers[0]?.response);
    assert.equal(position, answers[0]?.position);
  }
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 990n);
});

test("the same key with another body is refused and names the first transfer; nothing is written", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  const { response } = await call(ledger, ledger.createTransfer, request);
  const others: Partial<CreateTransferRequest>[] = [
    { memo: "other" },
    { type: "other" },
    { metadata: { a: "b" } },
    { effectiveTime: new Date(0) },
  ];
  others.push({
    postings: [
      { debitAccountId: payer.accountId, creditAccountId: payee.accountId, amountMinorUnits: 11n, currency: "EUR" },
    ],
  });
  for (const other of others) {
    await assert.rejects(call(ledger, ledger.createTransfer, { ...request, ...other }), {
      code: 6,
      reason: "IDEMPOTENCY_KEY_REUSED",
      metadata: {
        idempotency_key: request.idempotencyKey,
        resource_type: "transfer",
        resource_name: response.transferId,
      },
    });
  }
  assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 990n);
  // A default that is written out is the same body.
  assert.equal((await call(ledger, ledger.createTransfer, { ...request, type: "transfer" })).replayed, true);
});

test("a business refusal is replayed even when it would be possible now; a malformed or unknown one is not remembered", async () => {
  const [payer, payee] = [await openAccount(), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  await assert.rejects(call(ledger, ledger.createTransfer, request), {
    code: 9,
    reason: "INSUFFICIENT_FUNDS",
    replayed: false,
  });
  await transfer("system:cash", payer.accountId, 100n);
  await assert.rejects(call(ledger, ledger.createTransfer, request), {
    code: 9,
    reason: "INSUFFICIENT_FUNDS",
    replayed: true,
  });

  const idempotencyKey = newKey();
  await assert.rejects(transfer(payer.accountId, payee.accountId, 0n, { idempotencyKey }), { code: 3 });
  const unknown = newId("acct", parseId(payer.accountId)?.bucket as number);
  await assert.rejects(transfer(payer.accountId, unknown, 10n, { idempotencyKey }), {
    code: 5,
    reason: "ACCOUNT_NOT_FOUND",
    fields: ["postings[0].credit_account_id"],
  });
  assert.equal((await transfer(payer.accountId, payee.accountId, 10n, { idempotencyKey })).replayed, false);
});

test("system accounts are opened on first use, per currency and shard, and shown with their id", async () => {
  const name = `system:t${newKey().slice(5)}`;
  const accounts = await Promise.all([openAccount({}, 1), openAccount({}, 2), openAccount({ currency: "USD" }, 1)]);
  const used = await Promise.all(
    accounts.flatMap((account) =>
      Array.from({ length: 5 }, () => transfer(name, account.accountId, 5n, { currency: account.currency })),
    ),
  );
  const ids = used.map(({ response }) => response.postings[0]?.debitAccountId as string);
  assert.equal(new Set(ids).size, 3);
  const system = await readAccount(ids[0] as string);
  assert.deepEqual([system.reference, system.floorMinorUnits, system.postedMinorUnits], [name, undefined, -25n]);
});

test("a system account's own id beside its name is the same account, and refused", async () => {
  const account = await openAccount();
  const { response } = await transfer("system:cash", account.accountId, 5n);
  const cash = response.postings[0]?.debitAccountId as string;
  const before = await readAccount(cash);
  for (const [debit, credit] of [
    ["system:cash", cash],
    [cash, "system:cash"],
  ] as const) {
    await assert.rejects(transfer(debit, credit, 1n), { code: 3, fields: ["postings[0].credit_account_id"] });
  }
  const after = await readAccount(cash);
  assert.ok(after.postedMinorUnits <= before.postedMinorUnits, "money was made");
});

test("the words of SQL are ordinary types, memos and references", async () => {
  const [payer, payee] = [await openFunded(10n, { reference: "null" }), await openAccount({ reference: "NULL" })];
  const { response } = await transfer(payer.accountId, payee.accountId, 1n, {
    type: "null",
    memo: "NULL",
    metadata: { null: "" },
  });
  const { response: read } = await call(ledger, ledger.getTransfer, { transferId: response.transferId });
  assert.deepEqual([read.type, read.memo, read.metadata], ["null", "NULL", { null: "" }]);
});

test("a key belongs to the bucket of the first debit account: another payer's transfer under it is another command", async () => {
  const [one, other, payee] = [await openFunded(10n), await openFunded(10n), await openAccount()];
  const idempotencyKey = newKey();
  const first = await transfer(one.accountId, payee.accountId, 1n, { idempotencyKey });
  const second = await transfer(other.accountId, payee.accountId, 1n, { idempotencyKey });
  assert.notEqual(second.response.transferId, first.response.transferId);
});

test("each business rule refuses with its reason", async () => {
  const [payer, payee, dollars, frozen] = await Promise.all([
    openFunded(1_000n),
    openAccount(),
    openAccount({ currency: "USD" }),
    openAccount(),
  ]);
  await setStatus("freeze", frozen.accountId);
  const second = await openFunded(100n, { ownerId: newOwner(1) });
  await assert.rejects(transfer(payer.accountId, dollars.accountId, 1n), { code: 9, reason: "CURRENCY_MISMATCH" });
  await assert.rejects(transfer(payer.accountId, frozen.accountId, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
  await assert.rejects(transfer(frozen.accountId, payer.accountId, 1n), { code: 9, reason: "ACCOUNT_FROZEN" });
  await assert.rejects(transfer(payer.accountId, payee.accountId, 1_001n), {
    code: 9,
    reason: "INSUFFICIENT_FUNDS",
    metadata: {
      account_id: payer.accountId,
      available_minor_units: "1000",
      floor_minor_units: "0",
      needed_minor_units: "1001",
    },
  });
  const posting = (debitAccountId: string) => ({
    debitAccountId,
    creditAccountId: payee.accountId,
    amountMinorUnits: 1n,
    currency: "EUR",
  });
  const twoPayers = CreateTransferRequest.fromPartial({
    postings: [posting(payer.accountId), posting(second.accountId)],
    idempotencyKey: newKey(),
  });
  await assert.rejects(call(ledger, ledger.createTransfer, twoPayers), {
    code: 9,
    reason: "DEBITS_IN_SEVERAL_BUCKETS",
  });
});

test("a balance reaches the largest 64-bit integer and not beyond; amounts beyond 2^53 lose nothing", async () => {
  const account = await openAccount();
  await transfer("system:mint", account.accountId, 9_007_199_254_740_993n);
  await transfer("system:mint_2", account.accountId, 2n ** 63n - 1n - 9_007_199_254_740_993n);
  assert.equal((await readAccount(account.accountId)).postedMinorUnits, 2n ** 63n - 1n);
  await assert.rejects(transfer("system:mint_3", account.accountId, 1n), { code: 9, reason: "BALANCE_OVERFLOW" });
});

test("effective times follow one another per account", async () => {
  const account = await openAccount();
  const source = `system:t${newKey().slice(5)}`;
  const at = (effectiveTime: Date) => transfer(source, account.accountId, 1n, { effectiveTime });
  const { response } = await at(new Date("1993-02-01T00:00:00Z"));
  assert.equal(response.effectiveTime?.toISOString(), "1993-02-01T00:00:00.000Z");
  await at(new Date("1993-02-01T00:00:00Z"));
  await assert.rejects(at(new Date("1993-01-31T00:00:00Z")), { code: 9, reason: "EFFECTIVE_TIME_NOT_MONOTONIC" });
  await assert.rejects(at(new Date(Date.now() + 60_000)), { code: 9, reason: "EFFECTIVE_TIME_IN_FUTURE" });
});

test("malformed requests name their fields", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const cases: [Partial<CreateTransferRequest>, string[]][] = [
    [{ postings: [] }, ["postings"]],
    [{ type: "Not Allowed" }, ["type"]],
    [{ memo: "x".repeat(141) }, ["memo"]],
    [{ memo: "a\u0000b" }, ["memo"]],
    [{ metadata: { "": "x" } }, ["metadata"]],
    [{ metadata: { a: "x".repeat(201) } }, ["metadata.a"]],
    [{ effectiveTime: new Date("-000001-12-31T00:00:00Z") }, ["effective_time"]],
  ];
  const posting = transferRequest(payer.accountId, payee.accountId, 1n).postings[0];
  assert.ok(posting);
  const field = (name: string) => `postings[0].${name}`;
  for (const [change, names] of [
    [{ amountMinorUnits: 0n }, [field("amount_minor_units")]],
    [{ amountMinorUnits: -1n }, [field("amount_minor_units")]],
    [{ currency: "EURO" }, [field("currency")]],
    [{ debitAccountId: "nobody" }, [field("debit_account_id")]],
    [{ debitAccountId: payee.accountId }, [field("credit_account_id")]],
    [{ debitAccountId: "system:" }, [field("debit_account_id")]],
    [{ debitAccountId: "system:CASH" }, [field("debit_account_id")]],
    [{ debitAccountId: "system:a", creditAccountId: "system:b" }, ["postings[0]"]],
    [
      { debitAccountId: "", creditAccountId: "", currency: "", amountMinorUnits: 0n },
      [field("debit_account_id"), field("credit_account_id"), field("amount_minor_units"), field("currency")],
    ],
  ] as const) {
    cases.push([{ postings: [{ ...posting, ...change }] }, [...names]]);
  }
  cases.push([{ postings: Array.from({ length: 101 }, () => posting) }, ["postings"]]);
  for (const [change, fields] of cases) {
    const request = { ...transferRequest(payer.accountId, payee.accountId, 1n), ...change };
    await assert.rejects(call(ledger, ledger.createTransfer, request), { code: 3, fields }, JSON.stringify(fields));
  }
  assert.equal((await readAccount(payer.accountId)).version, 2n);
});
