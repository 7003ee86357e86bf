import { currencyExponent } from "#lib/currencies.ts";

/** Money is a `bigint` of minor units with its currency, everywhere. These are the bounds of int64 (Postgres, Protobuf). */
export const MAX_MINOR_UNITS = 2n ** 63n - 1n;
export const MIN_MINOR_UNITS = -(2n ** 63n);

/** For people: minor units with a decimal point and the currency (`-12.05 EUR`). Throws for an unknown currency. */
export function formatMoney(amountMinorUnits: bigint, currency: string): string {
  const exponent = currencyExponent(currency);
  if (exponent === undefined) throw new Error(`${currency} is no ISO 4217 currency`);
  const digits = (amountMinorUnits < 0n ? -amountMinorUnits : amountMinorUnits).toString().padStart(exponent + 1, "0");
  const whole = digits.slice(0, digits.length - exponent).replace(/\B(?=(\d{3})+$)/g, ",");
  const fraction = exponent === 0 ? "" : `.${digits.slice(-exponent)}`;
  return `${amountMinorUnits < 0n ? "-" : ""}${whole}${fraction} ${currency}`;
}
