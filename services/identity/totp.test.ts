import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Refusal } from "#lib/refusal.ts";
import { parseFactor, stepOfCode } from "#services/identity/totp.ts";

/** RFC 6238, appendix B, SHA-1: the last six of its eight digits. */
const SECRET = Buffer.from("12345678901234567890");
const VECTORS: [seconds: number, code: string][] = [
  [59, "287082"],
  [1_111_111_109, "081804"],
  [1_111_111_111, "050471"],
  [1_234_567_890, "005924"],
  [2_000_000_000, "279037"],
  [20_000_000_000, "353130"],
];

test("codes are those of RFC 6238, and are taken one step early and one late, no further", () => {
  for (const [seconds, code] of VECTORS) {
    const step = Math.floor(seconds / 30);
    for (const [away, expected] of [
      [0, step],
      [30, step],
      [-30, step],
      [61, undefined],
      [-61, undefined],
    ] as const) {
      assert.equal(stepOfCode(SECRET, code, (seconds + away) * 1000), expected, `${code} at ${seconds} + ${away} s`);
    }
  }
});

test("what has not the form of a code is refused before anything is looked up, and spaces make no difference", () => {
  assert.deepEqual(parseFactor({ totpCode: "123 456", recoveryCode: "" }), { kind: "totp", code: "123456" });
  assert.deepEqual(parseFactor({ totpCode: "", recoveryCode: "ABCD-efgh jkmn-pqrs" }), {
    kind: "recovery",
    code: "abcdefghjkmnpqrs",
  });
  for (const factor of [
    { totpCode: "", recoveryCode: "" },
    { totpCode: "12345", recoveryCode: "" },
    { totpCode: "1234567", recoveryCode: "" },
    { totpCode: "١٢٣٤٥٦", recoveryCode: "" },
    { totpCode: "123456", recoveryCode: "abcdefghjkmnpqrs" },
    { totpCode: "", recoveryCode: "abcdefgh" },
  ]) {
    assert.throws(() => parseFactor(factor), { name: "Refusal", reason: "MALFORMED_REQUEST" });
  }
  fc.assert(
    fc.property(fc.string(), fc.string(), (totpCode, recoveryCode) => {
      try {
        assert.match(parseFactor({ totpCode, recoveryCode }).code, /^(\d{6}|[a-z]{16})$/);
      } catch (error) {
        assert.ok(error instanceof Refusal);
      }
    }),
  );
});
