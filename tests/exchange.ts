import assert from "node:assert/strict";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import {
  CreateConversionRequest,
  CreateQuoteRequest,
  type Quote,
  SetRatesRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { pairOf } from "#services/ledger/rate.ts";
import { ledger, newKey, postgres, shardNumbers } from "#tests/stack.ts";

/** Rates and quotes for tests. Rates belong to the whole stack: each test file has pairs of its own. */

/** Sets one rate as of now, or as said. */
export function setRate(base: string, quote: string, rate: string, spreadBps = 0, asOf = new Date()) {
  const request = SetRatesRequest.fromPartial({ idempotencyKey: newKey() });
  return call(ledger, ledger.setRates, { ...request, rates: [{ base, quote, rate, spreadBps, asOf }] });
}

/** As if nobody had ever set a rate between the two. */
export async function forgetRates(base: string, quote: string): Promise<void> {
  const forget = "delete from ledger.rates where pair = $1";
  await Promise.all(shardNumbers.map((shard) => postgres(shard).query(forget, [pairOf(base, quote)])));
}

/** A quote that sells a fixed amount, or buys one, unless `more` says otherwise. */
export async function quoteOf(
  sellCurrency: string,
  buyCurrency: string,
  amount: { sell: bigint } | { buy: bigint },
  more: Partial<CreateQuoteRequest> = {},
): Promise<Quote> {
  const fixed =
    "sell" in amount
      ? ({ $case: "sellMinorUnits", value: amount.sell } as const)
      : ({ $case: "buyMinorUnits", value: amount.buy } as const);
  const request = CreateQuoteRequest.fromPartial({ sellCurrency, buyCurrency, idempotencyKey: newKey(), ...more });
  return (await call(ledger, ledger.createQuote, { ...request, amount: fixed })).response;
}

/** Uses a quote. Rejects with a CallError. */
export function convert(
  quoteId: string,
  debitAccountId: string,
  creditAccountId: string,
  more: Partial<CreateConversionRequest> = {},
  client = ledger,
) {
  const request = { quoteId, debitAccountId, creditAccountId, idempotencyKey: newKey(), ...more };
  return call(client, client.createConversion, CreateConversionRequest.fromPartial(request));
}

export async function readQuote(quoteId: string): Promise<Quote> {
  return (await call(ledger, ledger.getQuote, { quoteId })).response;
}

/** Changes the row of a quote, wherever it is, by a piece of SQL. */
export async function changeQuote(quoteId: string, set: string): Promise<void> {
  const change = `update ledger.quotes set ${set} where quote_id = $1`;
  const uuid = parseId(quoteId)?.uuid;
  const changed = await Promise.all(shardNumbers.map((shard) => postgres(shard).query(change, [uuid])));
  assert.equal(
    changed.reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0),
    1,
  );
}
