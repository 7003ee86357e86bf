import assert from "node:assert/strict";
import { test } from "node:test";
import { currencyCodes, currencyExponent } from "#lib/currencies.ts";
import { formatMoney } from "#lib/money.ts";

test("every code is one that the JavaScript engine knows too, once", () => {
  const known = new Set(Intl.supportedValuesOf("currency"));
  const unknown = currencyCodes().filter((code) => !known.has(code));
  assert.deepEqual(unknown, []);
  assert.equal(new Set(currencyCodes()).size, currencyCodes().length);
});

test("currencies have 0, 2 or 3 digits", () => {
  const digits: Record<string, number> = {
    EUR: 2,
    USD: 2,
    CZK: 2,
    MGA: 2,
    JPY: 0,
    KRW: 0,
    CLP: 0,
    KWD: 3,
    BHD: 3,
    TND: 3,
  };
  for (const [code, exponent] of Object.entries(digits)) assert.equal(currencyExponent(code), exponent, code);
});

test("withdrawn and invented currencies are none", () => {
  for (const code of ["HRK", "BGN", "ZWL", "XXX", "XTS", "XAU", "eur", "", "EURO", "constructor"]) {
    assert.equal(currencyExponent(code), undefined, code);
  }
});

test("money is shown with the digits of its currency, exactly", () => {
  assert.equal(formatMoney(9_007_199_254_740_993n, "EUR"), "90,071,992,547,409.93 EUR");
  assert.equal(formatMoney(-5n, "EUR"), "-0.05 EUR");
  assert.equal(formatMoney(1_234n, "JPY"), "1,234 JPY");
  assert.equal(formatMoney(1n, "KWD"), "0.001 KWD");
});
