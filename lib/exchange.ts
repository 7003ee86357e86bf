import { currencyExponent } from "#lib/currencies.ts";
import { type Decimal, decimal } from "#lib/decimal.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { Defect } from "#lib/refusal.ts";

/**
 * Exchange of money, exact: integers and fractions of integers, rounded where this file says so and nowhere else, always toward
 * the house. docs/exchange.md explains it for the reader, docs/decisions/0012-exchange.md why it is so.
 *
 *     market rate --quoteRate--> client's rate --sellFixed or buyFixed--> conversion --conversionPostings--> postings
 *
 * Nobody gains by going around: on either side the client gets at most the market value times (1 - spread) of what they pay.
 */

/** One unit of `base` is worth `rate` units of `quote` (major units). One per unordered pair: it serves both directions. */
export interface MarketRate {
  readonly base: string;
  readonly quote: string;
  /** Above zero. */
  readonly rate: Decimal;
  /** What the house keeps in either direction, in hundredths of a percent: a whole number, 0 to MAX_SPREAD_BPS. */
  readonly spreadBps: number;
}

export const MAX_SPREAD_BPS = 5_000;
const ALL_BPS = 10_000;
const CLIENT_RATE_DIGITS = 12;

/** What a client gets: `rate` units of `buyCurrency` for one unit of `sellCurrency` (major units). Shown and applied alike. */
export interface ClientRate {
  readonly sellCurrency: string;
  readonly buyCurrency: string;
  readonly rate: Decimal;
}

/**
 * The client's rate for selling one currency of a pair for the other, to 12 significant digits, rounded down:
 *
 *     selling the base:   floor12(rate × (1 - spread))
 *     selling the quote:  floor12((1 / rate) × (1 - spread))
 *
 * The rounding costs the client less than 1 part in 10^11; selling the base at a rate of up to 8 digits it costs nothing.
 */
export function quoteRate({ base, quote, rate, spreadBps }: MarketRate, sellCurrency: string): ClientRate {
  if (base === quote || (sellCurrency !== base && sellCurrency !== quote))
    throw new Defect(`${sellCurrency} is not one of the pair ${base}/${quote}`);
  if (!Number.isInteger(spreadBps) || spreadBps < 0 || spreadBps > MAX_SPREAD_BPS)
    throw new Defect(`a spread of ${spreadBps} bps is not a whole number of 0 to ${MAX_SPREAD_BPS}`);
  if (rate.units <= 0n) throw new Defect(`the rate of ${base}/${quote} is not above zero`);
  const kept = BigInt(ALL_BPS - spreadBps);
  const one = 10n ** BigInt(rate.scale);
  return sellCurrency === base
    ? { sellCurrency, buyCurrency: quote, rate: roundDown(rate.units * kept, one * BigInt(ALL_BPS)) }
    : { sellCurrency, buyCurrency: base, rate: roundDown(one * kept, rate.units * BigInt(ALL_BPS)) };
}

/** A fraction above zero to CLIENT_RATE_DIGITS significant digits, rounded down. */
function roundDown(numerator: bigint, denominator: bigint): Decimal {
  // Of the fraction times 10^scale, 12 or 13 digits stand before the point.
  const scale = CLIENT_RATE_DIGITS - (digitsOf(numerator) - digitsOf(denominator));
  const units =
    scale >= 0 ? (numerator * 10n ** BigInt(scale)) / denominator : numerator / (denominator * 10n ** BigInt(-scale));
  return digitsOf(units) > CLIENT_RATE_DIGITS ? decimal(units / 10n, scale - 1) : decimal(units, scale);
}

function digitsOf(value: bigint): number {
  return value.toString().length;
}

/** Amounts are in minor units of their currency, within int64; those that are sold and bought are above zero. */
export interface Conversion {
  readonly sellCurrency: string;
  readonly sellMinorUnits: bigint;
  readonly buyCurrency: string;
  readonly buyMinorUnits: bigint;
  /** In the bought currency: what the sold amount is worth beyond what was asked for. Zero when the sold amount is fixed. */
  readonly residueMinorUnits: bigint;
}

export type ConversionOutcome =
  | { readonly kind: "converted"; readonly conversion: Conversion }
  /** The sold amount is worth less than one minor unit of the bought currency. */
  | { readonly kind: "converts_to_zero" }
  /** An amount of it does not fit 64 bits. */
  | { readonly kind: "out_of_range" };

/**
 * What a client gets for an amount above zero, rounded down:
 *
 *     buy = floor(sell × rate × 10^(digits of buy currency - digits of sell currency))
 *
 * The fraction of a minor unit that is cut off is not posted anywhere: it is part of what the FX position has earned.
 */
export function sellFixed(client: ClientRate, sellMinorUnits: bigint): ConversionOutcome {
  requirePositive(sellMinorUnits);
  const { numerator, denominator } = inMinorUnits(client);
  const buyMinorUnits = (sellMinorUnits * numerator) / denominator;
  if (sellMinorUnits > MAX_MINOR_UNITS || buyMinorUnits > MAX_MINOR_UNITS) return { kind: "out_of_range" };
  if (buyMinorUnits === 0n) return { kind: "converts_to_zero" };
  const { sellCurrency, buyCurrency } = client;
  return {
    kind: "converted",
    conversion: { sellCurrency, sellMinorUnits, buyCurrency, buyMinorUnits, residueMinorUnits: 0n },
  };
}

/**
 * What a client pays to get exactly an amount above zero: the least whose worth, as `sellFixed` rounds it, reaches it.
 *
 *     sell = ceil(buy / (rate × 10^(digits of buy currency - digits of sell currency)))
 *     residue = floor(sell × rate × 10^(…)) - buy
 *
 * The residue is above zero only where one minor unit that is sold is worth more than one that is bought. It belongs to the
 * house, and is posted to an account of its own, so that the position shows only what was exchanged. Never `converts_to_zero`.
 */
export function buyFixed(client: ClientRate, buyMinorUnits: bigint): ConversionOutcome {
  requirePositive(buyMinorUnits);
  const { numerator, denominator } = inMinorUnits(client);
  const sellMinorUnits = (buyMinorUnits * denominator + numerator - 1n) / numerator;
  const worthMinorUnits = (sellMinorUnits * numerator) / denominator;
  if (sellMinorUnits > MAX_MINOR_UNITS || worthMinorUnits > MAX_MINOR_UNITS) return { kind: "out_of_range" };
  const { sellCurrency, buyCurrency } = client;
  const residueMinorUnits = worthMinorUnits - buyMinorUnits;
  return {
    kind: "converted",
    conversion: { sellCurrency, sellMinorUnits, buyCurrency, buyMinorUnits, residueMinorUnits },
  };
}

function requirePositive(amountMinorUnits: bigint): void {
  if (amountMinorUnits <= 0n) throw new Defect(`${amountMinorUnits} minor units cannot be exchanged`);
}

/** Minor units of the bought currency for one of the sold, as a fraction. */
function inMinorUnits({ sellCurrency, buyCurrency, rate }: ClientRate): { numerator: bigint; denominator: bigint } {
  return {
    numerator: rate.units * minorUnitsOf(buyCurrency),
    denominator: 10n ** BigInt(rate.scale) * minorUnitsOf(sellCurrency),
  };
}

/** How many minor units a major unit has. */
function minorUnitsOf(currency: string): bigint {
  const exponent = currencyExponent(currency);
  if (exponent === undefined) throw new Defect(`${currency} is no ISO 4217 currency`);
  return 10n ** BigInt(exponent);
}

/** Who takes part in a conversion. The last two are `system:` accounts of the house, one per currency. */
export type ConversionParty = "payer" | "payee" | "fx_position" | "fx_residue";

export interface ConversionPosting {
  readonly debit: ConversionParty;
  readonly credit: ConversionParty;
  /** Above zero. */
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

/**
 * The postings of a conversion: two, which are four entries, and a third when there is a residue. Every posting has one currency,
 * so each currency sums to zero.
 */
export function conversionPostings(conversion: Conversion): ConversionPosting[] {
  const { sellCurrency, sellMinorUnits, buyCurrency, buyMinorUnits, residueMinorUnits } = conversion;
  const postings: ConversionPosting[] = [
    { debit: "payer", credit: "fx_position", amountMinorUnits: sellMinorUnits, currency: sellCurrency },
    { debit: "fx_position", credit: "payee", amountMinorUnits: buyMinorUnits, currency: buyCurrency },
  ];
  if (residueMinorUnits > 0n)
    postings.push({
      debit: "fx_position",
      credit: "fx_residue",
      amountMinorUnits: residueMinorUnits,
      currency: buyCurrency,
    });
  return postings;
}
