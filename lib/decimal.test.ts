import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decimal, formatDecimal, parseDecimal } from "#lib/decimal.ts";

test("whatever decimal is written, it is read exactly and written the same", () => {
  const units = fc.oneof(fc.bigInt(1n, 10n ** 18n - 1n), fc.bigInt(1n, 10n ** 36n - 1n));
  fc.assert(
    fc.property(units, fc.integer({ min: 0, max: 18 }), (drawn, scale) => {
      fc.pre(drawn < 10n ** BigInt(18 + scale));
      const value = decimal(drawn, scale);
      assert.equal(value.units * 10n ** BigInt(scale - value.scale), drawn);
      assert.ok(value.scale === 0 || value.units % 10n !== 0n);
      assert.deepEqual(parseDecimal(formatDecimal(value)), value);
    }),
  );
});

test("equal numbers are equal, however they are written", () => {
  for (const text of ["1.5", "1.50", "001.500000000000000000", "000000000000000001.5"])
    assert.deepEqual(parseDecimal(text), { units: 15n, scale: 1 }, text);
  assert.deepEqual(parseDecimal(".5"), { units: 5n, scale: 1 });
  assert.deepEqual(parseDecimal("100"), { units: 100n, scale: 0 });
  assert.deepEqual(decimal(3n, -2), { units: 300n, scale: 0 });
});

test("decimals are written with all their digits and none more", () => {
  assert.equal(formatDecimal({ units: 67n, scale: 5 }), "0.00067");
  assert.equal(formatDecimal({ units: 1_500n, scale: 0 }), "1500");
  const longest = "999999999999999999.999999999999999999";
  assert.equal(formatDecimal(parseDecimal(longest) ?? assert.fail()), longest);
  assert.equal(formatDecimal(parseDecimal("0.000000000000000001") ?? assert.fail()), "0.000000000000000001");
});

test("what is no decimal above zero, or has too many digits, is none", () => {
  const texts = [
    "",
    ".",
    "0",
    "0.0",
    ".000",
    "5.",
    "+1",
    "-1",
    "1e3",
    "1E3",
    "1,5",
    "1_0",
    " 1",
    "1 ",
    "1\n",
    "0x10",
    "٣",
    "½",
  ];
  for (const text of [...texts, "NaN", "Infinity", "1.2.3", "1".repeat(19), `0.${"1".repeat(19)}`, "0".repeat(19)])
    assert.equal(parseDecimal(text), undefined, JSON.stringify(text));
});
