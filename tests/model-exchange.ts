import { MAX_MINOR_UNITS } from "#lib/money.ts";

/**
 * The arithmetic of docs/exchange.md, written a second time and in the plainest way: fractions of integers, and a client's
 * rate that is found digit by digit. For the model of tests/model.ts.
 */

export interface MarketRate {
  readonly base: string;
  readonly quote: string;
  /** A decimal without needless zeros. */
  readonly rate: string;
  readonly spreadBps: number;
}

/** Amounts in minor units, and the client's rate as it is shown. */
export interface Exchange {
  readonly rate: string;
  readonly sellMinorUnits: bigint;
  readonly buyMinorUnits: bigint;
  readonly residueMinorUnits: bigint;
}

/** What an amount exchanges for, or the reason why it can not be exchanged. Amounts are above zero. */
export function exchange(
  market: MarketRate,
  sellCurrency: string,
  digits: { readonly sell: number; readonly buy: number },
  fixed: { readonly sell: bigint } | { readonly buy: bigint },
): Exchange | "CONVERTS_TO_ZERO" | "AMOUNT_OUT_OF_RANGE" {
  const [whole = "", fraction = ""] = market.rate.split(".");
  const [units, one] = [BigInt(whole + fraction), 10n ** BigInt(fraction.length)];
  const kept = 10_000n - BigInt(market.spreadBps);
  const rate =
    sellCurrency === market.base
      ? toTwelveDigits(units * kept, one * 10_000n)
      : toTwelveDigits(one * kept, units * 10_000n);
  // Minor units bought for one that is sold.
  const above = rate.units * 10n ** BigInt(digits.buy);
  const below = rate.one * 10n ** BigInt(digits.sell);
  let sold = "sell" in fixed ? fixed.sell : (fixed.buy * below) / above;
  if ("buy" in fixed && (sold * above) / below < fixed.buy) sold += 1n;
  const worth = (sold * above) / below;
  if (sold > MAX_MINOR_UNITS || worth > MAX_MINOR_UNITS) return "AMOUNT_OUT_OF_RANGE";
  if (worth === 0n) return "CONVERTS_TO_ZERO";
  const bought = "buy" in fixed ? fixed.buy : worth;
  return { rate: rate.text, sellMinorUnits: sold, buyMinorUnits: bought, residueMinorUnits: worth - bought };
}

/** A fraction above zero, cut off after its first twelve significant digits. */
function toTwelveDigits(above: bigint, below: bigint): { units: bigint; one: bigint; text: string } {
  const whole = (above / below).toString();
  if (whole.length > 12) {
    const units = BigInt(whole.slice(0, 12).padEnd(whole.length, "0"));
    return { units, one: 1n, text: units.toString() };
  }
  let places = 0;
  while ((above * 10n ** BigInt(places)) / below < 10n ** 11n) places += 1;
  const units = (above * 10n ** BigInt(places)) / below;
  const text = units.toString().padStart(places + 1, "0");
  const point = text.length - places;
  const decimal = places === 0 ? text : `${text.slice(0, point)}.${text.slice(point)}`.replace(/\.?0+$/, "");
  return { units, one: 10n ** BigInt(places), text: decimal };
}
