/**
 * ISO 4217, list one as SIX published it on 2026-09-17 (amendments up to number 180): every code that has a minor unit,
 * funds among them (CLF, UYW, …). Left out are the codes for which ISO gives none, because an amount in them has no minor
 * units: precious metals (XAU, …), units of account (XDR, XSU, XUA, XBA to XBD), XTS and XXX.
 *
 * `lib/currencies.test.ts` holds it against other lists. When ISO withdraws a code, it moves to WITHDRAWN_…, it never vanishes:
 * there may be accounts in it. A code's digits never change: ISO gives a redenominated currency a new code.
 */
const TWO_DIGITS =
  "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU " +
  "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES " +
  "KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR " +
  "NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP " +
  "TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG";
const NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND";
const FOUR_DIGITS = "CLF UYW";
const WITHDRAWN_TWO_DIGITS = "ANG BGN CUC";

const ACTIVE: ReadonlyMap<string, number> = new Map([
  ...TWO_DIGITS.split(" ").map((code) => [code, 2] as const),
  ...NO_DIGITS.split(" ").map((code) => [code, 0] as const),
  ...THREE_DIGITS.split(" ").map((code) => [code, 3] as const),
  ...FOUR_DIGITS.split(" ").map((code) => [code, 4] as const),
]);
const WITHDRAWN: ReadonlyMap<string, number> = new Map(
  WITHDRAWN_TWO_DIGITS.split(" ").map((code) => [code, 2] as const),
);

/**
 * How many digits of an amount in minor units stand behind the point: 0, 2, 3 or 4. Undefined for a code that is no currency.
 * Withdrawn currencies are known too, so that money in them can be moved, shown and exchanged.
 */
export function currencyExponent(code: string): number | undefined {
  return ACTIVE.get(code) ?? WITHDRAWN.get(code);
}

/** Whether an account may be opened in it: ISO lists it, and has not withdrawn it. */
export function isActiveCurrency(code: string): boolean {
  return ACTIVE.has(code);
}

/** Every active code, in no particular order. */
export function currencyCodes(): string[] {
  return [...ACTIVE.keys()];
}
