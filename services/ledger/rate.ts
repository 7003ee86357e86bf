import type { ClientBase, Pool } from "pg";
import { formatDecimal, parseDecimal } from "#lib/decimal.ts";
import type { MarketRate } from "#lib/exchange.ts";
import { Defect } from "#lib/refusal.ts";
import { plainArray, textArray } from "#lib/sql-arrays.ts";

/**
 * Market rates: `ledger.rates`, the same rows on every shard, only ever added. Of a pair the latest `as_of` counts, whenever
 * it was written; of several with the same one the highest by the rest of the key, so that all shards agree.
 */

/** No quote is made from a rate that is older, by the shard's clock. */
export const MAX_RATE_AGE_MS = 24 * 60 * 60 * 1000;
/** So far may the clock of whoever sets rates be ahead of the shard's. */
export const MAX_RATE_AHEAD_MS = 60_000;

/** A market rate as of a time, in ms since 1970. */
export interface DatedRate extends MarketRate {
  readonly asOfMs: number;
}

/** A rate that a batch adds. */
export interface NewRate extends DatedRate {
  /** The caller. */
  readonly setBy: string;
}

/** Names a pair of currencies, in whichever order they come. */
export function pairOf(one: string, other: string): string {
  return one < other ? `${one}${other}` : `${other}${one}`;
}

/** Of each pair the rate that counts; pairs without any are missing. */
export async function readRates(
  db: Pick<ClientBase | Pool, "query">,
  pairs: readonly string[],
): Promise<Map<string, DatedRate>> {
  if (pairs.length === 0) return new Map();
  const { rows } = await db.query<RateRow>({
    name: "read-rates",
    text: `select p.pair, r.base, r.quote, r.rate, r.spread_bps, extract(epoch from r.as_of)::double precision * 1000
             from unnest($1::text[]) p (pair) cross join lateral
                  (select * from ledger.rates where pair = p.pair
                    order by as_of desc, spread_bps desc, base desc, rate desc limit 1) r`,
    values: [plainArray(pairs)],
    rowMode: "array",
  });
  return new Map(
    rows.map(([pair, base, quote, text, spreadBps, asOfMs]) => {
      const rate = parseDecimal(text);
      if (rate === undefined) throw new Defect(`the rate of ${pair} is written as ${text}`);
      return [pair, { base, quote, rate, spreadBps, asOfMs }];
    }),
  );
}

type RateRow = [pair: string, base: string, quote: string, rate: string, spreadBps: number, asOfMs: number];

/** The parameters of `ledger.write_rates`, in its order. */
export function rateColumns(rates: readonly NewRate[]): string[] {
  return [
    plainArray(rates.map(({ base, quote }) => pairOf(base, quote))),
    plainArray(rates.map(({ asOfMs }) => new Date(asOfMs).toISOString())),
    plainArray(rates.map(({ spreadBps }) => spreadBps)),
    plainArray(rates.map(({ base }) => base)),
    plainArray(rates.map(({ rate }) => formatDecimal(rate))),
    plainArray(rates.map(({ quote }) => quote)),
    textArray(rates.map(({ setBy }) => setBy)),
  ];
}
