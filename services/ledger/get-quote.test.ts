import assert from "node:assert/strict";
import { test } from "node:test";
import { Quote_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { changeQuote, quoteOf, readQuote, setRate } from "#tests/exchange.ts";
import { newId, newOwner, openAccount } from "#tests/stack.ts";

test("a quote is read as it was answered, and expires by its shard's clock", async () => {
  await setRate("THB", "LAK", "612.5", 30);
  const { accountId } = await openAccount({ currency: "THB" }, 2);
  const quote = await quoteOf("THB", "LAK", { sell: 1_000n }, { debitAccountId: accountId });
  assert.deepEqual(await readQuote(quote.quoteId), quote);
  await changeQuote(quote.quoteId, "expire_time = clock_timestamp()");
  assert.equal((await readQuote(quote.quoteId)).state, Quote_State.EXPIRED);
});

test("an unknown id, or another caller's quote, is not found; another kind of id is malformed", async () => {
  const unknown = newId("quot", 1);
  await assert.rejects(readQuote(unknown), { code: 5, reason: "QUOTE_NOT_FOUND", metadata: { quote_id: unknown } });
  await setRate("THB", "MMK", "61.5");
  const { accountId } = await openAccount({ currency: "THB" }, 2);
  const quote = await quoteOf("THB", "MMK", { sell: 1_000n }, { debitAccountId: accountId });
  await changeQuote(quote.quoteId, "caller = 'somebody else'");
  await assert.rejects(readQuote(quote.quoteId), { code: 5, reason: "QUOTE_NOT_FOUND" });
  for (const id of ["", "quot_x", newOwner(), newId("xfer", 1)]) {
    await assert.rejects(readQuote(id), { code: 3, fields: ["quote_id"] });
  }
});
