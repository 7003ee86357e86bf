import { dictionary } from "@zxcvbn-ts/language-common";
import type { FieldCheck } from "#lib/fields.ts";
import { refusals } from "#services/identity/refusals.ts";

/**
 * The rules of OWASP ASVS 5 (V6.2): 8 characters or more, 64 and more are possible, anything may be in it, nothing must be; the
 * ones that are tried first are refused, and so is one's own address. Nothing is trimmed or cut off.
 */
const MIN_CHARACTERS = 8;
/** Argon2 takes any length; a bound is needed somewhere. */
const MAX_BYTES = 256;

/** 49,000 of the most used passwords (MIT licence), in lower case. */
const common = new Set(dictionary["passwords-common"].filter((password) => password.length >= MIN_CHARACTERS));
const OF_THIS_SYSTEM = ["ledgermesh", "ledgermesh1", "ledgermesh123"];

/** One form for what looks the same however it was typed (NFC). */
export function normalizePassword(password: string): string {
  return password.normalize("NFC");
}

/** Notes a violation unless a new password is long enough and not too long. */
export function checkPasswordLength(check: FieldCheck, field: string, password: string): void {
  const long = Buffer.byteLength(password) <= MAX_BYTES && [...password].length >= MIN_CHARACTERS;
  check.require(long, field, `must have ${MIN_CHARACTERS} characters or more, in ${MAX_BYTES} bytes at most`);
}

/** Throws PASSWORD_TOO_COMMON for one that would be guessed. */
export function refuseCommonPassword(field: string, password: string, normalizedEmail: string): void {
  const folded = password.toLowerCase();
  const own = [normalizedEmail, normalizedEmail.slice(0, normalizedEmail.lastIndexOf("@"))];
  if (common.has(folded) || OF_THIS_SYSTEM.includes(folded) || own.includes(folded)) {
    throw refusals.passwordTooCommon(field);
  }
}

/** Notes a violation unless it can be anybody's password: whoever signs in is told nothing more about it. */
export function checkGivenPassword(check: FieldCheck, field: string, password: string): void {
  const possible = password !== "" && Buffer.byteLength(password) <= MAX_BYTES;
  check.require(possible, field, `must be given, in ${MAX_BYTES} bytes at most`);
}
