/**
 * An exact decimal: units × 10^-scale. In canonical form, which all functions here answer: the scale is not negative, and as small
 * as it can be, so that equal numbers have equal fields.
 */
export interface Decimal {
  readonly units: bigint;
  readonly scale: number;
}

const DECIMAL_PATTERN = /^(\d{0,18})(?:\.(\d{1,18}))?$/;

/**
 * A decimal above zero of at most 18 digits on either side of the point; undefined for anything else. No sign, exponent,
 * separator or space; `.5` and `007.50` are read, `5.` is not.
 */
export function parseDecimal(text: string): Decimal | undefined {
  const match = DECIMAL_PATTERN.exec(text);
  if (match === null) return undefined;
  const [, whole = "", fraction = ""] = match;
  const units = BigInt(whole + fraction);
  return units === 0n ? undefined : decimal(units, fraction.length);
}

/** units × 10^-scale in canonical form; the scale may be negative. */
export function decimal(units: bigint, scale: number): Decimal {
  if (scale <= 0) return { units: units * 10n ** BigInt(-scale), scale: 0 };
  const zeros = /0*$/.exec(units.toString())?.[0].length ?? 0;
  const dropped = Math.min(zeros, scale);
  return { units: units / 10n ** BigInt(dropped), scale: scale - dropped };
}

/** As people and JSON read it: all digits, a point only where there is a fraction, no exponent (`0.00067`, `1500`). */
export function formatDecimal({ units, scale }: Decimal): string {
  const digits = units.toString().padStart(scale + 1, "0");
  return scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
