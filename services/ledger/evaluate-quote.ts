import { formatDecimal } from "#lib/decimal.ts";
import { buyFixed, quoteRate, sellFixed } from "#lib/exchange.ts";
import type { Refusal } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { CreateQuoteCommand } from "#services/ledger/command.ts";
import { encodeQuoteCreated } from "#services/ledger/encode-exchange.ts";
import { type LockedQuote, QUOTE_LIFETIME_MS } from "#services/ledger/quote.ts";
import { type DatedRate, MAX_RATE_AGE_MS, pairOf } from "#services/ledger/rate.ts";
import { refusals } from "#services/ledger/refusals.ts";

/** Quotes: their states are at the top of quote.ts, their arithmetic is in lib/exchange.ts. */

/** Makes a quote from the rate that counts now. */
export function createQuote(command: CreateQuoteCommand, batch: Batch): Evaluation {
  const { quoteId, key, sellCurrency, buyCurrency, fixed, amountMinorUnits } = command;
  const market = batch.rates.get(pairOf(sellCurrency, buyCurrency));
  if (market === undefined) return refused(refusals.rateUnknown(sellCurrency, buyCurrency));
  if (isTooOld(market, batch)) {
    return refused(refusals.rateTooOld(sellCurrency, buyCurrency, new Date(market.asOfMs)));
  }
  const client = quoteRate(market, sellCurrency);
  const outcome = fixed === "sell" ? sellFixed(client, amountMinorUnits) : buyFixed(client, amountMinorUnits);
  switch (outcome.kind) {
    case "converts_to_zero":
      return refused(refusals.convertsToZero(amountMinorUnits, sellCurrency, buyCurrency));
    case "out_of_range":
      return refused(refusals.amountOutOfRange(amountMinorUnits, fixed === "sell" ? sellCurrency : buyCurrency));
    case "converted":
      break;
  }
  const quote: LockedQuote = {
    ...outcome.conversion,
    quoteId,
    quoteUuid: key.resourceUuid,
    bucket: key.bucket,
    caller: key.caller,
    debitAccountId: command.debitAccountId,
    rate: formatDecimal(client.rate),
    createdAtMs: batch.nowMs,
    expireTimeMs: batch.nowMs + QUOTE_LIFETIME_MS,
    state: "OPEN",
    transferId: undefined,
    row: "new",
  };
  batch.quotes.set(quoteId, quote);
  const event = addEvent(batch, {
    bucket: key.bucket,
    aggregateId: quoteId,
    aggregateVersion: 1n,
    type: "quote_created",
    payload: encodeQuoteCreated(quote),
  });
  return { kind: "done", answer: { kind: "quote", quote }, event };
}

function isTooOld({ asOfMs }: DatedRate, { nowMs }: Batch): boolean {
  return nowMs - asOfMs > MAX_RATE_AGE_MS;
}

function refused(refusal: Refusal): Evaluation {
  return { kind: "refused", refusal, remembered: true };
}
