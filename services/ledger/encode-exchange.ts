import { formatDecimal } from "#lib/decimal.ts";
import type { LockedQuote } from "#services/ledger/quote.ts";
import type { DatedRate } from "#services/ledger/rate.ts";

/** Events of exchange in Protobuf's JSON form; a test holds them against the messages of events.proto. */

/** The payload of `rates_set`. */
export function encodeRatesSet(rates: readonly DatedRate[]): string {
  return JSON.stringify({
    rates: rates.map(({ base, quote, rate, spreadBps, asOfMs }) => ({
      base,
      quote,
      rate: formatDecimal(rate),
      spread_bps: spreadBps,
      as_of: new Date(asOfMs).toISOString(),
    })),
  });
}

/** The payload of `quote_created`. */
export function encodeQuoteCreated(quote: LockedQuote): string {
  return JSON.stringify({
    quote_id: quote.quoteId,
    rate: quote.rate,
    sell_currency: quote.sellCurrency,
    buy_currency: quote.buyCurrency,
    sell_minor_units: quote.sellMinorUnits.toString(),
    buy_minor_units: quote.buyMinorUnits.toString(),
    residue_minor_units: quote.residueMinorUnits.toString(),
    ...(quote.debitAccountId === undefined ? {} : { debit_account_id: quote.debitAccountId }),
    expire_time: new Date(quote.expireTimeMs).toISOString(),
  });
}
