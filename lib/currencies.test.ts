import assert from "node:assert/strict";
import { test } from "node:test";
import { data } from "currency-codes";
import { currencyCodes, currencyExponent, isActiveCurrency } from "#lib/currencies.ts";

/** `currency-codes` 2.2.0 carries list one of 2024-06-25. What ISO has changed since, by its amendments. */
const WITHDRAWN_SINCE = {
  // Amendment 176: Curaçao and Sint Maarten replaced it by XCG on 2025-03-31.
  ANG: 2,
  // Amendment 178, of February 2025: Cuba's convertible peso, gone since June 2021.
  CUC: 2,
  // Amendment 180: Bulgaria adopted the euro on 2026-01-01.
  BGN: 2,
};
const ADDED_SINCE = {
  // Amendment 176: the Caribbean guilder, from 2025-03-31.
  XCG: 2,
  // Amendment 179: the Arab Monetary Fund's accounting dinar, a fund, from 2025-05-12.
  XAD: 2,
};
/** Codes without a minor unit, "N.A." in list one (`currency-codes` says 0): no account can hold them. */
const WITHOUT_MINOR_UNIT = "XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX".split(" ");
/** Units of account and accounting conventions of one country or bank, and VED, a second code of Venezuela's bolívar (VES). */
const UNKNOWN_TO_INTL = "BOV CHE CHW CLF COU MXV USN UYI UYW VED XAD".split(" ");
/**
 * CLDR counts the digits that people use in cash, ISO those of the currency. Money here has ISO's, as at banks: an amount
 * of 1 HUF is 100 minor units, though no filler has been minted for decades.
 */
const FEWER_DIGITS_IN_INTL = "AFN ALL COP HUF IDR IQD IRR KPW LAK LBP MGA MMK PKR SOS SYP YER".split(" ");

test("the table is list one of 2024 with what the amendments since then changed", () => {
  const expected = new Map(data.map(({ code, digits }) => [code, digits]));
  for (const code of WITHOUT_MINOR_UNIT) assert.ok(expected.delete(code), code);
  for (const code of Object.keys(WITHDRAWN_SINCE)) assert.ok(expected.delete(code), code);
  for (const [code, digits] of Object.entries(ADDED_SINCE)) {
    assert.ok(!expected.has(code), code);
    expected.set(code, digits);
  }
  assert.deepEqual(new Map(currencyCodes().map((code) => [code, currencyExponent(code)])), expected);
  assert.equal(currencyCodes().length, 165);
});

test("the JavaScript engine knows every code but the named funds", () => {
  const known = new Set(Intl.supportedValuesOf("currency"));
  assert.deepEqual(new Set(currencyCodes().filter((code) => !known.has(code))), new Set(UNKNOWN_TO_INTL));
});

test("the JavaScript engine shows as many digits, but for the named currencies, where CLDR counts cash", () => {
  const shown = (currency: string) =>
    new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
  const known = currencyCodes().filter((code) => !UNKNOWN_TO_INTL.includes(code));
  const differing = known.filter((code) => shown(code) !== currencyExponent(code));
  assert.deepEqual(new Set(differing), new Set(FEWER_DIGITS_IN_INTL));
  for (const code of FEWER_DIGITS_IN_INTL) assert.equal(shown(code), 0, code);
});

test("money in a withdrawn currency keeps its digits, but no account is opened in it", () => {
  for (const [code, digits] of Object.entries(WITHDRAWN_SINCE)) {
    assert.equal(currencyExponent(code), digits, code);
    assert.equal(isActiveCurrency(code), false, code);
    assert.ok(!currencyCodes().includes(code), code);
  }
});

test("codes without a minor unit, long gone or invented are no currencies", () => {
  for (const code of [...WITHOUT_MINOR_UNIT, "HRK", "ZWL", "eur", "", "EURO", "constructor", "__proto__"]) {
    assert.equal(currencyExponent(code), undefined, code);
    assert.equal(isActiveCurrency(code), false, code);
  }
});
