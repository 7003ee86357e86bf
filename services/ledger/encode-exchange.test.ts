import assert from "node:assert/strict";
import { test } from "node:test";
import { QuoteCreated, RatesSet } from "#proto/ledgermesh/ledger/v1/events.ts";
import { encodeQuoteCreated, encodeRatesSet } from "#services/ledger/encode-exchange.ts";
import type { LockedQuote } from "#services/ledger/quote.ts";

const HUGE = 9_007_199_254_740_993n;
const NOW_MS = Date.UTC(2026, 10, 21, 12, 0, 0, 123);

test("the event of new rates is the message of the contract", () => {
  const rate = { base: "EUR", quote: "USD", rate: { units: 10842n, scale: 4 }, spreadBps: 25, asOfMs: NOW_MS };
  const text = encodeRatesSet([rate]);
  const message = RatesSet.fromJSON(JSON.parse(text));
  assert.deepEqual(message.rates, [
    { base: "EUR", quote: "USD", rate: "1.0842", spreadBps: 25, asOf: new Date(NOW_MS) },
  ]);
  // Nothing is written that the contract does not know.
  assert.deepEqual(Object.keys(JSON.parse(text).rates[0]), ["base", "quote", "rate", "spread_bps", "as_of"]);
});

test("the event of a quote is the message of the contract", () => {
  const quote: LockedQuote = {
    quoteId: "quot_1",
    quoteUuid: "",
    bucket: 1,
    caller: "local",
    debitAccountId: "acct_1",
    rate: "0.00666131083885",
    sellCurrency: "JPY",
    sellMinorUnits: HUGE,
    buyCurrency: "USD",
    buyMinorUnits: 2n,
    residueMinorUnits: 3n,
    createdAtMs: NOW_MS - 30_000,
    expireTimeMs: NOW_MS,
    state: "OPEN",
    transferId: undefined,
    row: "new",
  };
  const message = QuoteCreated.fromJSON(JSON.parse(encodeQuoteCreated(quote)));
  assert.deepEqual(message, {
    quoteId: "quot_1",
    rate: "0.00666131083885",
    sellCurrency: "JPY",
    buyCurrency: "USD",
    sellMinorUnits: HUGE,
    buyMinorUnits: 2n,
    residueMinorUnits: 3n,
    debitAccountId: "acct_1",
    expireTime: new Date(NOW_MS),
  });
  const forAnybody = QuoteCreated.fromJSON(JSON.parse(encodeQuoteCreated({ ...quote, debitAccountId: undefined })));
  assert.equal(forAnybody.debitAccountId, "");
});
