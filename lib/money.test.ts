import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMoney } from "#lib/money.ts";

test("money is shown with the digits of its currency, exactly", () => {
  assert.equal(formatMoney(9_007_199_254_740_993n, "EUR"), "90,071,992,547,409.93 EUR");
  assert.equal(formatMoney(-5n, "EUR"), "-0.05 EUR");
  assert.equal(formatMoney(1_234n, "JPY"), "1,234 JPY");
  assert.equal(formatMoney(1n, "KWD"), "0.001 KWD");
  assert.equal(formatMoney(-12_345n, "CLF"), "-1.2345 CLF");
  assert.equal(formatMoney(195_583n, "BGN"), "1,955.83 BGN");
});
