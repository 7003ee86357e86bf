import assert from "node:assert/strict";
import { test } from "node:test";
import { FieldCheck } from "#lib/fields.ts";
import { checkPasswordLength, normalizePassword, refuseCommonPassword } from "#services/identity/password-rules.ts";

function lengthIsFine(password: string): boolean {
  const check = new FieldCheck();
  checkPasswordLength(check, "password", password);
  try {
    check.done();
    return true;
  } catch {
    return false;
  }
}

test("8 characters are enough, 64 and more are possible, 256 bytes are the end", () => {
  assert.deepEqual(
    [7, 8, 64, 128, 256, 257].map((length) => lengthIsFine("x".repeat(length))),
    [false, true, true, true, true, false],
  );
  // Characters, not bytes or UTF-16 units.
  assert.equal(lengthIsFine("🪙".repeat(7)), false);
  assert.equal(lengthIsFine("🪙".repeat(8)), true);
});

test("nothing must be in it: any characters will do, spaces too", () => {
  for (const password of ["correct horse", "ěščřžýáí", "        x", "zqvbnrtw", "93105738201"]) {
    assert.ok(lengthIsFine(password));
    refuseCommonPassword("password", password, "ada@example.com");
  }
});

test("the passwords that are tried first are refused, however they are written, and one's own address", () => {
  for (const password of [
    "password",
    "PassWord",
    "12345678",
    "qwertyuiop",
    "iloveyou",
    "ledgermesh",
    "Ada.Lovelace",
    "ada.lovelace@example.com",
  ]) {
    assert.throws(
      () => refuseCommonPassword("password", password, "ada.lovelace@example.com"),
      { reason: "PASSWORD_TOO_COMMON" },
      password,
    );
  }
});

test("what looks the same is the same, however it was typed", () => {
  assert.equal(normalizePassword("Ame\u0301lie-Poulain"), "Am\u00e9lie-Poulain");
});
