import assert from "node:assert/strict";
import { test } from "node:test";
import { FieldCheck } from "#lib/fields.ts";
import { checkCountry, checkName, checkPhone, checkSettings } from "#services/identity/parse-user.ts";

function passes(look: (check: FieldCheck) => unknown): boolean {
  const check = new FieldCheck();
  look(check);
  try {
    check.done();
    return true;
  } catch {
    return false;
  }
}

test("a name is a line of 1 to 100 characters", () => {
  for (const name of ["Ada", "Zoë Žižková", "李", "x".repeat(100)])
    assert.ok(passes((check) => checkName(check, "name", name)));
  for (const name of ["", "  ", "a\nb", "a\u0000", "x".repeat(101)])
    assert.ok(!passes((check) => checkName(check, "name", name)));
});

test("phones are in E.164 form, countries are those of ISO 3166", () => {
  for (const phone of ["", "+420601123456", "+12025550123"])
    assert.ok(passes((check) => checkPhone(check, "phone", phone)));
  for (const phone of ["601123456", "+0201", "+420 601 123 456", "+1".padEnd(17, "2")])
    assert.ok(!passes((check) => checkPhone(check, "phone", phone)));
  for (const country of ["CZ", "XK", "cz", "EU", "UK", ""])
    assert.equal(
      passes((check) => checkCountry(check, "country", country)),
      country === "CZ",
      country,
    );
});

test("settings get their one form, and what is no language or time zone is refused", () => {
  const check = new FieldCheck();
  assert.deepEqual(
    checkSettings(check, "settings", { language: "PT-br", timeZone: "europe/prague", emailOnPayment: true }),
    {
      language: "pt-BR",
      timeZone: "Europe/Prague",
      emailOnPayment: true,
    },
  );
  check.done();
  for (const [language, timeZone] of [
    ["not a tag", ""],
    ["", "Mars/Olympus"],
    ["", "+02:00"],
    ["x".repeat(65), ""],
  ] as const) {
    assert.ok(!passes((bad) => checkSettings(bad, "settings", { language, timeZone, emailOnPayment: false })));
  }
});
