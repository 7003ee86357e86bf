import assert from "node:assert/strict";
import { test } from "node:test";
import { checkCurrency, FieldCheck } from "#lib/fields.ts";
import { Account_Kind, CreateAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { parseAccountRequest } from "#services/ledger/parse-account.ts";

test("no account is opened in a withdrawn currency, while money in it may still move", () => {
  const open = (currency: string) => {
    const check = new FieldCheck();
    parseAccountRequest(check, "", CreateAccountRequest.fromPartial({ currency, kind: Account_Kind.WALLET }));
    check.done();
  };
  open("EUR");
  const message = "currency: must be an ISO 4217 currency code, such as EUR, that is not withdrawn";
  for (const currency of ["BGN", "XAU", "eur"])
    assert.throws(() => open(currency), { status: "INVALID_ARGUMENT", message }, currency);

  const check = new FieldCheck();
  checkCurrency(check, "currency", "BGN");
  assert.doesNotThrow(() => check.done());
});
