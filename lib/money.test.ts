import assert from "node:assert/strict";
import { test } from "node:test";
import { currencyCodes, currencyExponent } from "#lib/currencies.ts";
import { formatMoney } from "#lib/money.ts";

test("exponents are those of ISO 4217, as the JavaScript engine knows them", () => {
  const known = new Set(Intl.supportedValuesOf("currency"));
  let compared = 0;
  for (const code of currencyCodes()) {
    if (!known.has(code)) continue;
    const digits = new Intl.NumberFormat("en", { style: "currency", currency: code }).resolvedOptions()
      .maximumFractionDigits;
    assert.equal(currencyExponent(code), digits, code);
    compared += 1;
  }
  assert.ok(compared > 140, `only ${compared} were compared`);
  assert.equal(new Set(currencyCodes()).size, currencyCodes().length);
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
