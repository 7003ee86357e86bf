import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { currencyExponent } from "#lib/currencies.ts";
import { type Decimal, decimal, formatDecimal, parseDecimal } from "#lib/decimal.ts";
import {
  buyFixed,
  type ClientRate,
  type Conversion,
  type ConversionOutcome,
  conversionPostings,
  MAX_SPREAD_BPS,
  type MarketRate,
  quoteRate,
  sellFixed,
} from "#lib/exchange.ts";
import { formatMoney, MAX_MINOR_UNITS } from "#lib/money.ts";

const RUNS = 3_000;
/** So many of the runs must be about money that really changes hands; rates and amounts are drawn from all magnitudes. */
const LEAST_CONVERTED_RUNS = RUNS / 5;

/** Currencies of every exponent there is: their differences are -4 to 4. */
const PAIRS = ["JPY", "EUR", "KWD", "CLF"].flatMap((base) =>
  ["KRW", "USD", "BHD", "UYW"].map((quote) => [base, quote] as const),
);
/** 1e-18 to nearly 1e18, every number of digits as likely as another. */
const rates = fc
  .tuple(fc.integer({ min: 1, max: 36 }), fc.bigInt(0n, 10n ** 36n), fc.integer({ min: 0, max: 18 }))
  .map(([digits, drawn, scale]) => {
    const largest = 10n ** BigInt(Math.min(digits, 18 + scale)) - 1n;
    return decimal((drawn % largest) + 1n, scale);
  });
/** 1 to the largest int64, every number of bits as likely as another. */
const amounts = fc
  .tuple(fc.integer({ min: 0, max: 62 }), fc.oneof(fc.bigInt(1n, MAX_MINOR_UNITS), fc.constant(MAX_MINOR_UNITS)))
  .map(([bits, drawn]) => drawn >> BigInt(bits) || 1n);
const markets: fc.Arbitrary<MarketRate> = fc
  .tuple(
    fc.constantFrom(...PAIRS),
    rates,
    fc.oneof(fc.constantFrom(0, MAX_SPREAD_BPS), fc.integer({ min: 0, max: MAX_SPREAD_BPS })),
  )
  .map(([[base, quote], rate, spreadBps]) => ({ base, quote, rate, spreadBps }));
/** A market rate and the side that is sold. */
const trades = fc
  .tuple(markets, fc.boolean())
  .map(([market, sellsBase]) => ({ market, sellCurrency: sellsBase ? market.base : market.quote }));

test("a client's rate is the market's less the spread, to 12 digits and never above it, and is applied as it is shown", () => {
  fc.assert(
    fc.property(trades, ({ market, sellCurrency }) => {
      const { rate } = quoteRate(market, sellCurrency);
      const [numerator, denominator] = fairRate(market, sellCurrency);
      const [shown, one] = [rate.units, 10n ** BigInt(rate.scale)];
      assert.ok(shown * denominator <= numerator * one, "above the fair rate");
      assert.ok((numerator * one - shown * denominator) * 10n ** 11n < numerator * one, "further below than 12 digits");
      const text = formatDecimal(rate);
      assert.ok(text.replace(".", "").replace(/^0+|0+$/g, "").length <= 12, text);
      assert.equal(BigInt(text.replace(".", "")), shown);
    }),
    { numRuns: RUNS },
  );
});

test("selling the base at a rate of 8 digits costs nothing but the spread", () => {
  fc.assert(
    fc.property(fc.bigInt(1n, 10n ** 8n - 1n), fc.nat(18), fc.nat(MAX_SPREAD_BPS), (units, scale, spreadBps) => {
      const { rate } = quoteRate({ base: "EUR", quote: "USD", rate: decimal(units, scale), spreadBps }, "EUR");
      assert.deepEqual(rate, decimal(units * BigInt(10_000 - spreadBps), scale + 4));
    }),
  );
});

test("nobody gets more than the fair value of what they pay, and misses less than a minor unit and the rate's 12th digit", () => {
  ofConverted(fc.tuple(trades, amounts, fc.boolean()), ([{ market, sellCurrency }, amount, buys]) => {
    const client = quoteRate(market, sellCurrency);
    const outcome = buys ? buyFixed(client, amount) : sellFixed(client, amount);
    if (outcome.kind !== "converted") return false;
    const { sellMinorUnits, buyMinorUnits, residueMinorUnits } = outcome.conversion;
    for (const one of [sellMinorUnits, buyMinorUnits]) assert.ok(one > 0n && one <= MAX_MINOR_UNITS);
    assert.ok(residueMinorUnits >= 0n && (buys || residueMinorUnits === 0n));
    const [fair, denominator] = fairWorth(market, sellCurrency, sellMinorUnits);
    const worth = buyMinorUnits + residueMinorUnits;
    assert.ok(worth * denominator <= fair, "more than it is worth");
    assert.ok((worth + 1n) * denominator * 10n ** 11n > fair * (10n ** 11n - 1n), "a minor unit or more is missing");
    return true;
  });
});

test("a sale is refused exactly when it is worth less than a minor unit, or an amount does not fit 64 bits", () => {
  fc.assert(
    fc.property(trades, amounts, ({ market, sellCurrency }, amount) => {
      const client = quoteRate(market, sellCurrency);
      const [worth, denominator] = worthAt(client, amount);
      const expected =
        worth < denominator ? "converts_to_zero" : worth / denominator > MAX_MINOR_UNITS ? "out_of_range" : "converted";
      assert.equal(sellFixed(client, amount).kind, expected);
    }),
    { numRuns: RUNS },
  );
});

test("a purchase costs the least whose sale reaches it: one minor unit less would not", () => {
  ofConverted(fc.tuple(trades, amounts), ([{ market, sellCurrency }, amount]) => {
    const client = quoteRate(market, sellCurrency);
    const outcome = buyFixed(client, amount);
    assert.notEqual(outcome.kind, "converts_to_zero");
    if (outcome.kind !== "converted") {
      // Either it costs more than there can be, or the next sale that would reach it is worth more than there can be.
      const [worth, denominator] = worthAt(client, MAX_MINOR_UNITS);
      const [step, stepDenominator] = worthAt(client, 1n);
      assert.ok(worth < amount * denominator || amount * stepDenominator + step > MAX_MINOR_UNITS * stepDenominator);
      return false;
    }
    const { sellMinorUnits, buyMinorUnits, residueMinorUnits } = outcome.conversion;
    assert.equal(buyMinorUnits, amount);
    assert.equal(converted(sellFixed(client, sellMinorUnits)).buyMinorUnits, buyMinorUnits + residueMinorUnits);
    if (sellMinorUnits > 1n) {
      const less = sellFixed(client, sellMinorUnits - 1n);
      assert.ok(less.kind === "converts_to_zero" || converted(less).buyMinorUnits < amount);
    }
    return true;
  });
});

test("going there and back at one rate never gains, whichever side of the two conversions is fixed", () => {
  ofConverted(
    fc.tuple(trades, amounts, fc.boolean(), fc.boolean()),
    ([{ market, sellCurrency }, amount, buysThere, buysBack]) => {
      const there = quoteRate(market, sellCurrency);
      const back = quoteRate(market, there.buyCurrency);
      const first = buysThere ? buyFixed(there, amount) : sellFixed(there, amount);
      if (first.kind !== "converted") return false;
      const { sellMinorUnits: paid, buyMinorUnits: got } = first.conversion;
      if (buysBack) {
        // What was paid, and one minor unit more than that, cannot be bought with less than what was got.
        for (const [wanted, least] of [
          [paid, got],
          [paid + 1n, got + 1n],
        ] as const) {
          const second = buyFixed(back, wanted);
          if (second.kind === "converted") assert.ok(second.conversion.sellMinorUnits >= least);
        }
      } else {
        const second = sellFixed(back, got);
        if (second.kind === "converts_to_zero") return true;
        assert.ok(converted(second).buyMinorUnits <= paid);
      }
      return true;
    },
  );
});

test("a sale in parts never brings more than the whole, and a purchase in parts never costs less", () => {
  const parts = fc.array(amounts, { minLength: 2, maxLength: 5 });
  ofConverted(fc.tuple(trades, parts), ([{ market, sellCurrency }, drawn]) => {
    const client = quoteRate(market, sellCurrency);
    const whole = drawn.reduce((sum, part) => sum + part, 0n);
    const sale = sellFixed(client, whole);
    const purchase = buyFixed(client, whole);
    if (sale.kind === "converted") {
      const brought = drawn.map((part) => sellFixed(client, part)).reduce((sum, part) => sum + bought(part), 0n);
      assert.ok(brought <= sale.conversion.buyMinorUnits);
    }
    if (purchase.kind === "converted") {
      const costs = drawn.map((part) => converted(buyFixed(client, part)).sellMinorUnits);
      assert.ok(costs.reduce((sum, cost) => sum + cost, 0n) >= purchase.conversion.sellMinorUnits);
    }
    return sale.kind === "converted" || purchase.kind === "converted";
  });
});

test("each currency sums to zero, the payer pays what was quoted, and the payee gets it", () => {
  ofConverted(fc.tuple(trades, amounts, fc.boolean()), ([{ market, sellCurrency }, amount, buys]) => {
    const client = quoteRate(market, sellCurrency);
    const outcome = buys ? buyFixed(client, amount) : sellFixed(client, amount);
    if (outcome.kind !== "converted") return false;
    const { buyCurrency, sellMinorUnits, buyMinorUnits, residueMinorUnits } = outcome.conversion;
    const entries = entriesOf(outcome.conversion);
    assert.equal(entries.length, residueMinorUnits === 0n ? 4 : 6);
    const sums = new Map<string, bigint>();
    for (const { party, currency, minorUnits } of entries) {
      assert.notEqual(minorUnits, 0n);
      for (const key of [currency, `${party} ${currency}`]) sums.set(key, (sums.get(key) ?? 0n) + minorUnits);
    }
    const expected = new Map([
      [sellCurrency, 0n],
      [buyCurrency, 0n],
      [`payer ${sellCurrency}`, -sellMinorUnits],
      [`fx_position ${sellCurrency}`, sellMinorUnits],
      [`fx_position ${buyCurrency}`, -buyMinorUnits - residueMinorUnits],
      [`payee ${buyCurrency}`, buyMinorUnits],
    ]);
    if (residueMinorUnits > 0n) expected.set(`fx_residue ${buyCurrency}`, residueMinorUnits);
    assert.deepEqual(sums, expected);
    return true;
  });
});

test("one yen is worth no cent, and two cents are worth no yen", () => {
  const market: MarketRate = { base: "USD", quote: "JPY", rate: rateOf("149.37"), spreadBps: 0 };
  assert.deepEqual(sellFixed(quoteRate(market, "JPY"), 1n), { kind: "converts_to_zero" });
  assert.equal(converted(sellFixed(quoteRate(market, "JPY"), 2n)).buyMinorUnits, 1n);
  const dear: MarketRate = { ...market, rate: rateOf("49.9") };
  assert.deepEqual(sellFixed(quoteRate(dear, "USD"), 2n), { kind: "converts_to_zero" });
  assert.equal(converted(sellFixed(quoteRate(dear, "USD"), 3n)).buyMinorUnits, 1n);
});

test("amounts at the edge of 64 bits are exchanged exactly, and beyond it refused", () => {
  const even: MarketRate = { base: "EUR", quote: "USD", rate: rateOf("1"), spreadBps: 0 };
  const client = quoteRate(even, "EUR");
  for (const exchange of [sellFixed, buyFixed]) {
    const { sellMinorUnits, buyMinorUnits } = converted(exchange(client, MAX_MINOR_UNITS));
    assert.deepEqual([sellMinorUnits, buyMinorUnits], [MAX_MINOR_UNITS, MAX_MINOR_UNITS]);
    assert.deepEqual(exchange(client, MAX_MINOR_UNITS + 1n), { kind: "out_of_range" });
  }
  // One fils buys 4,300 minor units of rupiah: the last fils that is needed is worth more than 64 bits hold.
  const steep = quoteRate({ base: "BHD", quote: "IDR", rate: rateOf("43000"), spreadBps: 0 }, "BHD");
  assert.deepEqual(buyFixed(steep, MAX_MINOR_UNITS), { kind: "out_of_range" });
  assert.equal(converted(buyFixed(steep, MAX_MINOR_UNITS - 4_300n)).sellMinorUnits, MAX_MINOR_UNITS / 4_300n);
});

test("a rate for another pair, a spread out of range and amounts of nothing are defects", () => {
  const market: MarketRate = { base: "EUR", quote: "USD", rate: rateOf("1.0842"), spreadBps: 50 };
  assert.throws(() => quoteRate(market, "GBP"), /GBP is not one of the pair EUR\/USD/);
  assert.throws(() => quoteRate({ ...market, quote: "EUR" }, "EUR"), /pair EUR\/EUR/);
  for (const spreadBps of [-1, 0.5, Number.NaN, MAX_SPREAD_BPS + 1])
    assert.throws(() => quoteRate({ ...market, spreadBps }, "EUR"), /a spread of/);
  assert.throws(() => quoteRate({ ...market, rate: { units: 0n, scale: 0 } }, "EUR"), /not above zero/);
  for (const exchange of [sellFixed, buyFixed])
    for (const amount of [0n, -1n])
      assert.throws(() => exchange(quoteRate(market, "EUR"), amount), /cannot be exchanged/);
  assert.throws(
    () => sellFixed({ ...quoteRate(market, "EUR"), buyCurrency: "XAU" }, 1n),
    /XAU is no ISO 4217 currency/,
  );
});

test("the examples of docs/exchange.md are what is computed", () => {
  const rows = [...readFileSync("docs/exchange.md", "utf8").matchAll(/^\| 1 .*\|$/gm)].map(([row]) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  assert.ok(rows.length >= 8, `${rows.length} examples`);
  for (const [pair = "", spread = "", asked = "", shownRate, pays, gets, residue] of rows) {
    const [, base = "", rate = "", quote = ""] = /^1 (\w+) = ([\d.]+) (\w+)$/.exec(pair) ?? assert.fail(pair);
    const [, side, amount = "", currency = "", other = ""] =
      /^(sells|buys) ([\d.,]+) (\w+) (?:for|with) (\w+)$/.exec(asked) ?? assert.fail(asked);
    const market: MarketRate = { base, quote, rate: rateOf(rate), spreadBps: Number.parseInt(spread, 10) };
    const client = quoteRate(market, side === "sells" ? currency : other);
    const minorUnits = BigInt(amount.replace(/[.,]/g, ""));
    assert.equal(formatMoney(minorUnits, currency), `${amount} ${currency}`);
    const outcome = side === "sells" ? sellFixed(client, minorUnits) : buyFixed(client, minorUnits);
    const computed =
      outcome.kind === "converted"
        ? [
            formatMoney(outcome.conversion.sellMinorUnits, client.sellCurrency),
            formatMoney(outcome.conversion.buyMinorUnits, client.buyCurrency),
            formatMoney(outcome.conversion.residueMinorUnits, client.buyCurrency),
          ]
        : ["refused", outcome.kind, ""];
    assert.deepEqual([shownRate, pays, gets, residue], [formatDecimal(client.rate), ...computed], asked);
  }
});

/** Runs a property that answers whether money changed hands, and fails when that was too rare to mean anything. */
function ofConverted<T>(arbitrary: fc.Arbitrary<T>, holds: (drawn: T) => boolean): void {
  let convertedRuns = 0;
  fc.assert(
    fc.property(arbitrary, (drawn) => {
      if (holds(drawn)) convertedRuns += 1;
    }),
    { numRuns: RUNS },
  );
  assert.ok(convertedRuns >= LEAST_CONVERTED_RUNS, `only ${convertedRuns} of ${RUNS} runs converted anything`);
}

/** The market's rate for a direction, less the spread, as a fraction: written down apart from the code it is held against. */
function fairRate({ base, rate, spreadBps }: MarketRate, sellCurrency: string): [bigint, bigint] {
  const one = 10n ** BigInt(rate.scale);
  const [numerator, denominator] = sellCurrency === base ? [rate.units, one] : [one, rate.units];
  return [numerator * BigInt(10_000 - spreadBps), denominator * 10_000n];
}

/** What an amount is worth in minor units of the other currency at the fair rate, as a fraction. */
function fairWorth(market: MarketRate, sellCurrency: string, sellMinorUnits: bigint): [bigint, bigint] {
  const buyCurrency = sellCurrency === market.base ? market.quote : market.base;
  return inMinorUnits(fairRate(market, sellCurrency), sellCurrency, buyCurrency, sellMinorUnits);
}

/** The same at a client's rate. */
function worthAt({ rate, sellCurrency, buyCurrency }: ClientRate, sellMinorUnits: bigint): [bigint, bigint] {
  return inMinorUnits([rate.units, 10n ** BigInt(rate.scale)], sellCurrency, buyCurrency, sellMinorUnits);
}

function inMinorUnits(rate: [bigint, bigint], sell: string, buy: string, sellMinorUnits: bigint): [bigint, bigint] {
  const minorUnits = (currency: string) => 10n ** BigInt(currencyExponent(currency) ?? assert.fail(currency));
  return [rate[0] * sellMinorUnits * minorUnits(buy), rate[1] * minorUnits(sell)];
}

function converted(outcome: ConversionOutcome): Conversion {
  assert.ok(outcome.kind === "converted", outcome.kind);
  return outcome.conversion;
}

function bought(outcome: ConversionOutcome): bigint {
  return outcome.kind === "converted" ? outcome.conversion.buyMinorUnits : 0n;
}

function entriesOf(conversion: Conversion) {
  return conversionPostings(conversion).flatMap(({ debit, credit, amountMinorUnits, currency }) => [
    { party: debit, currency, minorUnits: -amountMinorUnits },
    { party: credit, currency, minorUnits: amountMinorUnits },
  ]);
}

function rateOf(text: string): Decimal {
  return parseDecimal(text) ?? assert.fail(text);
}
