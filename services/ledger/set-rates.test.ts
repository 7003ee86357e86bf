import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { decodePosition } from "#lib/position.ts";
import type { Rate } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { quoteOf, setRate } from "#tests/exchange.ts";
import { ledger, newKey, openAccount, postgres, shardNumbers } from "#tests/stack.ts";

const MINUTE_MS = 60_000;
const rateOf = (change: Partial<Rate> = {}): Rate => ({
  base: "SEK",
  quote: "NOK",
  rate: "1.0123",
  spreadBps: 10,
  asOf: new Date(),
  ...change,
});
const set = (rates: Rate[], idempotencyKey = newKey()) => call(ledger, ledger.setRates, { rates, idempotencyKey });

/** What every shard quotes for 10,000 minor units: the rates that the client is shown. */
async function quotedRates(sellCurrency: string, buyCurrency: string): Promise<string[]> {
  return Promise.all(
    shardNumbers.map(async (shard) => {
      const { accountId } = await openAccount({ currency: sellCurrency }, shard);
      return (await quoteOf(sellCurrency, buyCurrency, { sell: 10_000n }, { debitAccountId: accountId })).rate;
    }),
  );
}

test("a rate is set on every shard, with an event and a position of each", async () => {
  const { response, position } = await set([rateOf({ rate: "01.5000", spreadBps: 0 })]);
  assert.deepEqual(
    response.rates.map(({ base, quote, rate, spreadBps }) => [base, quote, rate, spreadBps]),
    [["SEK", "NOK", "1.5", 0]],
  );
  assert.deepEqual(await quotedRates("SEK", "NOK"), ["1.5", "1.5", "1.5"]);
  const positions = decodePosition(position ?? "") ?? [];
  assert.deepEqual(
    positions.map(({ shard }) => shard),
    shardNumbers,
  );
  for (const { shard, number } of positions) {
    const { rows } = await postgres(shard).query("select type, payload::json from ledger.events where number = $1", [
      number.toString(),
    ]);
    assert.equal(rows[0]?.type, "rates_set");
    assert.equal(rows[0]?.payload.rates[0].rate, "1.5");
  }
});

test("the latest as_of counts, not the latest message; the answer says which rate counts", async () => {
  const now = Date.now();
  await setRate("DKK", "NOK", "1.5", 0, new Date(now));
  const { response } = await setRate("DKK", "NOK", "1.4", 0, new Date(now - MINUTE_MS));
  assert.deepEqual([response.rates[0]?.rate, response.rates[0]?.asOf?.getTime()], ["1.5", now]);
  assert.deepEqual(await quotedRates("DKK", "NOK"), ["1.5", "1.5", "1.5"]);
  // The other direction is the same pair.
  await setRate("NOK", "DKK", "0.5", 0, new Date(now + 1));
  assert.deepEqual(await quotedRates("DKK", "NOK"), ["2", "2", "2"]);
  assert.deepEqual(await quotedRates("NOK", "DKK"), ["0.5", "0.5", "0.5"]);
});

test("of several rates with the same as_of every shard takes the same one, whichever came first", async () => {
  const asOf = new Date();
  const rates = ["1.1", "1.3", "1.2"].map((rate) => rateOf({ base: "ISK", quote: "NOK", rate, spreadBps: 0, asOf }));
  await Promise.all(rates.map((rate) => set([rate])));
  await set([rateOf({ base: "ISK", quote: "NOK", rate: "1.1", spreadBps: 0, asOf })]);
  assert.deepEqual(await quotedRates("ISK", "NOK"), ["1.3", "1.3", "1.3"]);
});

test("a repeated call changes nothing and says so; another body under its key is refused", async () => {
  const key = newKey();
  const rates = [rateOf({ base: "PLN", quote: "CZK" }), rateOf({ base: "HUF", quote: "CZK" })];
  const first = await set(rates, key);
  const again = await set(rates, key);
  assert.deepEqual([first.replayed, again.replayed], [false, true]);
  assert.deepEqual(again.response, first.response);
  assert.equal(again.position, first.position);
  await assert.rejects(set([rateOf({ base: "PLN", quote: "CZK", rate: "2" })], key), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
});

test("a rate may be a minute ahead of the shard's clock, and not more", async () => {
  await set([rateOf({ base: "CHF", quote: "NOK", asOf: new Date(Date.now() + 30_000) })]);
  await assert.rejects(set([rateOf({ asOf: new Date(Date.now() + 5 * MINUTE_MS) })]), {
    code: 9,
    reason: "RATE_IN_FUTURE",
  });
});

test("malformed rates name their fields", async () => {
  const cases: [Rate[], string[]][] = [
    [[], ["rates"]],
    [Array.from({ length: 201 }, () => rateOf()), ["rates"]],
    [[rateOf({ base: "EUX" })], ["rates[0].base"]],
    [[rateOf({ quote: "nok" })], ["rates[0].quote"]],
    [[rateOf({ quote: "SEK" })], ["rates[0].quote"]],
    [[rateOf({ spreadBps: -1 })], ["rates[0].spread_bps"]],
    [[rateOf({ spreadBps: 5_001 })], ["rates[0].spread_bps"]],
    [[rateOf({ asOf: undefined })], ["rates[0].as_of"]],
    [[rateOf(), rateOf({ base: "NOK", quote: "SEK" })], ["rates[1]"]],
    ...["", "0", "0.000", "-1", "1e3", "1,5", " 1", "1.", "Infinity", "1".repeat(19), `0.${"1".repeat(19)}`].map(
      (rate): [Rate[], string[]] => [[rateOf({ rate })], ["rates[0].rate"]],
    ),
  ];
  for (const [rates, fields] of cases) {
    const wanted = { code: 3, reason: "MALFORMED_REQUEST" };
    await assert.rejects(set(rates), (error: typeof wanted & { fields: string[] }) => {
      assert.deepEqual([error.code, error.reason, error.fields[0]], [wanted.code, wanted.reason, fields[0]]);
      return true;
    });
  }
});
