import assert from "node:assert/strict";
import { before, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { decodePosition } from "#lib/position.ts";
import { CreateQuoteRequest, Quote_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { forgetRates, quoteOf, setRate } from "#tests/exchange.ts";
import { ledger, newId, newKey, openAccount, postgres, readAccount, shardNumbers } from "#tests/stack.ts";

const HOUR_MS = 60 * 60 * 1000;
const request = (change: Partial<CreateQuoteRequest> = {}): CreateQuoteRequest => ({
  ...CreateQuoteRequest.fromPartial({ sellCurrency: "AUD", buyCurrency: "JPY", idempotencyKey: newKey() }),
  amount: { $case: "sellMinorUnits", value: 10_000n },
  ...change,
});
const quote = (change: Partial<CreateQuoteRequest> = {}) => call(ledger, ledger.createQuote, request(change));

before(async () => {
  await setRate("AUD", "JPY", "149.37", 50);
});

test("a quote fixes the sold or the bought amount at the rate less the spread, for 30 seconds", async () => {
  const { response: sold, position, replayed } = await quote();
  assert.deepEqual([sold.rate, sold.sellMinorUnits, sold.buyMinorUnits], ["148.62315", 10_000n, 14_862n]);
  assert.equal(sold.residueMinorUnits, 0n);
  assert.equal((sold.expireTime?.getTime() ?? 0) - (sold.createTime?.getTime() ?? 0), 30_000);
  assert.deepEqual([sold.state, sold.transferId, sold.debitAccountId], [Quote_State.OPEN, "", ""]);
  assert.equal(replayed, false);
  assert.equal(decodePosition(position ?? "")?.length, 1);

  const { response: bought } = await quote({
    sellCurrency: "JPY",
    buyCurrency: "AUD",
    amount: { $case: "buyMinorUnits", value: 1n },
  });
  // 1 JPY is worth 0.666 of a minor unit; 2 are worth 1.33.
  assert.deepEqual([bought.sellMinorUnits, bought.buyMinorUnits, bought.residueMinorUnits], [2n, 1n, 0n]);

  await setRate("OMR", "KRW", "487.25");
  const { response: residue } = await quote({
    sellCurrency: "KRW",
    buyCurrency: "OMR",
    amount: { $case: "buyMinorUnits", value: 11n },
  });
  assert.deepEqual(
    [residue.rate, residue.sellMinorUnits, residue.buyMinorUnits, residue.residueMinorUnits],
    ["0.00205233453052", 6n, 11n, 1n],
  );
});

test("a quote for an account lies with it; its event is in the same commit", async () => {
  for (const shard of shardNumbers) {
    const { accountId } = await openAccount({ currency: "AUD" }, shard);
    const { response, position } = await quote({ debitAccountId: accountId });
    assert.equal(parseId(response.quoteId)?.bucket, parseId(accountId)?.bucket);
    assert.equal(response.debitAccountId, accountId);
    const [at] = decodePosition(position ?? "") ?? [];
    assert.equal(at?.shard, shard);
    const { rows } = await postgres(shard).query("select type, aggregate_id from ledger.events where number = $1", [
      at.number.toString(),
    ]);
    assert.deepEqual(rows, [{ type: "quote_created", aggregate_id: response.quoteId }]);
    assert.equal((await readAccount(accountId)).version, 1n);
  }
});

test("a repeated call answers the same quote, also one of 50 at once; another body is refused", async () => {
  const one = request();
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.createQuote, one)));
  for (const { response, position } of answers) {
    assert.deepEqual([response, position], [answers[0]?.response, answers[0]?.position]);
  }
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  await assert.rejects(call(ledger, ledger.createQuote, { ...one, buyCurrency: "AUD", sellCurrency: "JPY" }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
    metadata: {
      idempotency_key: one.idempotencyKey,
      resource_type: "quote",
      resource_name: answers[0]?.response.quoteId,
    },
  });
});

test("no rate, or one older than a day, makes no quote; none is made over a third currency", async () => {
  await forgetRates("NZD", "FJD");
  await forgetRates("NZD", "TOP");
  await setRate("NZD", "AUD", "0.91");
  await assert.rejects(quote({ sellCurrency: "NZD", buyCurrency: "JPY" }), { code: 9, reason: "RATE_UNKNOWN" });
  await setRate("NZD", "FJD", "1.35", 0, new Date(Date.now() - 23.9 * HOUR_MS));
  assert.equal((await quote({ sellCurrency: "NZD", buyCurrency: "FJD" })).response.rate, "1.35");
  await setRate("NZD", "TOP", "1.44", 0, new Date(Date.now() - 24.1 * HOUR_MS));
  const late = request({ sellCurrency: "TOP", buyCurrency: "NZD" });
  await assert.rejects(call(ledger, ledger.createQuote, late), { code: 9, reason: "RATE_TOO_OLD" });
  await setRate("NZD", "TOP", "1.44");
  // A business refusal is remembered.
  await assert.rejects(call(ledger, ledger.createQuote, late), { code: 9, reason: "RATE_TOO_OLD", replayed: true });
  await quote({ sellCurrency: "TOP", buyCurrency: "NZD" });
});

test("an amount that converts to zero is refused, and one beyond 64 bits", async () => {
  const refused = { code: 9, reason: "CONVERTS_TO_ZERO" };
  await assert.rejects(
    quote({ sellCurrency: "JPY", buyCurrency: "AUD", amount: { $case: "sellMinorUnits", value: 1n } }),
    refused,
  );
  await setRate("XAF", "JPY", "0.000000000000000001", 5_000);
  await assert.rejects(quote({ sellCurrency: "XAF", amount: { $case: "sellMinorUnits", value: 1n } }), refused);
  const most = { $case: "sellMinorUnits", value: MAX_MINOR_UNITS } as const;
  await assert.rejects(quote({ amount: most }), { code: 9, reason: "AMOUNT_OUT_OF_RANGE" });
  const bought = { $case: "buyMinorUnits", value: MAX_MINOR_UNITS } as const;
  await assert.rejects(quote({ sellCurrency: "XAF", amount: bought }), { code: 9, reason: "AMOUNT_OUT_OF_RANGE" });
  // The largest that fits loses no digit.
  assert.equal((await quoteOf("JPY", "AUD", { sell: MAX_MINOR_UNITS })).sellMinorUnits, MAX_MINOR_UNITS);
});

test("malformed requests name their fields", async () => {
  const cases: [Partial<CreateQuoteRequest>, string[]][] = [
    [{ sellCurrency: "" }, ["sell_currency"]],
    [{ buyCurrency: "XXX" }, ["buy_currency"]],
    [{ buyCurrency: "AUD" }, ["buy_currency"]],
    [{ amount: undefined }, ["sell_minor_units"]],
    [{ amount: { $case: "sellMinorUnits", value: 0n } }, ["sell_minor_units"]],
    [{ amount: { $case: "buyMinorUnits", value: -1n } }, ["buy_minor_units"]],
    [{ debitAccountId: "system:cash" }, ["debit_account_id"]],
    [{ debitAccountId: newId("quot", 1) }, ["debit_account_id"]],
  ];
  for (const [change, fields] of cases) {
    await assert.rejects(quote(change), { code: 3, reason: "MALFORMED_REQUEST", fields }, JSON.stringify(fields));
  }
});
