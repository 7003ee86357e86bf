import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { type Quote, Quote_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { quoteOf, setRate } from "#tests/exchange.ts";
import { ledger, newId, newOwner, openAccount, postgres } from "#tests/stack.ts";

const read = async (quoteId: string) => (await call(ledger, ledger.getQuote, { quoteId })).response;

async function change(quote: Quote, set: string): Promise<void> {
  const { rowCount } = await postgres(2).query(`update ledger.quotes set ${set} where quote_id = $1`, [
    parseId(quote.quoteId)?.uuid,
  ]);
  assert.equal(rowCount, 1);
}

test("a quote is read as it was answered, and expires by its shard's clock", async () => {
  await setRate("THB", "LAK", "612.5", 30);
  const { accountId } = await openAccount({ currency: "THB" }, 2);
  const quote = await quoteOf("THB", "LAK", { sell: 1_000n }, { debitAccountId: accountId });
  assert.deepEqual(await read(quote.quoteId), quote);
  await change(quote, "expire_time = clock_timestamp()");
  assert.equal((await read(quote.quoteId)).state, Quote_State.EXPIRED);
});

test("an unknown id, or another caller's quote, is not found; another kind of id is malformed", async () => {
  const unknown = newId("quot", 1);
  await assert.rejects(read(unknown), { code: 5, reason: "QUOTE_NOT_FOUND", metadata: { quote_id: unknown } });
  await setRate("THB", "MMK", "61.5");
  const { accountId } = await openAccount({ currency: "THB" }, 2);
  const quote = await quoteOf("THB", "MMK", { sell: 1_000n }, { debitAccountId: accountId });
  await change(quote, "caller = 'somebody else'");
  await assert.rejects(read(quote.quoteId), { code: 5, reason: "QUOTE_NOT_FOUND" });
  for (const id of ["", "quot_x", newOwner(), newId("xfer", 1)]) {
    await assert.rejects(read(id), { code: 3, fields: ["quote_id"] });
  }
});
