import { parseId } from "#lib/ids.ts";
import { malformed, type Refusal } from "#lib/refusal.ts";

/**
 * Card numbers, card verification values and full bank account numbers have no place in this system (docs/decisions/0022): a
 * request that holds one in any of its texts is refused before anything else sees it, and the refusal names the field alone.
 *
 *   card number          13 to 19 digits that pass Luhn's check (ISO/IEC 7812-1, annex B), in one piece or grouped as on a card,
 *                        whatever the digits' script, with spaces, dashes, dots or nothing visible between them
 *   verification value   three or four digits behind or under a name such as `cvv`
 *   bank account number  an IBAN of a known country with right check digits (ISO 13616, modulo 97)
 *
 * Ids, times and amounts of the system's own do not trip it: see `maskOwnIds` and `isPlausible`.
 */
export type CardData = "card_number" | "verification_value" | "bank_account_number";

const WHAT: Readonly<Record<CardData, string>> = {
  card_number: "a card number",
  verification_value: "the verification value of a card",
  bank_account_number: "a full bank account number",
};

/** INVALID_ARGUMENT `CARD_DATA_REFUSED`; undefined when there is no such data in the request or in the texts beside it. */
export function refuseCardData(
  bytes: Uint8Array,
  request: unknown,
  beside: Readonly<Record<string, string | undefined>>,
): Refusal | undefined {
  for (const field in beside) {
    const text = beside[field];
    if (text === undefined || !textMayHoldCardData(text)) continue;
    const found = findCardData(text, field);
    if (found !== undefined) return refusal(field, found);
  }
  if (!mayHoldCardData(bytes)) return undefined;
  const found = findInMessage(request, "", false);
  return found === undefined ? undefined : refusal(found.field, found.what);
}

function refusal(field: string, what: CardData): Refusal {
  const description = `holds what looks like ${WHAT[what]}: such data is never kept here; send a provider's token, or leave it out`;
  return malformed([{ field, description }], "CARD_DATA_REFUSED");
}

const DIGIT_0 = 0x30;
/** What card numbers have at least. IBANs may have fewer digits: those are known by how they begin. */
const MIN_CARD_DIGITS = 13;
const MAX_CARD_DIGITS = 19;

/** What a byte may be a part of. */
const OTHER = 0;
const DIGIT = 1;
/** Of another script perhaps, whose digits are at least two bytes each. */
const BEYOND_ASCII = 2;
const LETTER = 3;
const LETTER_C = 4;
/** Behind a c: `cvv`, and `security code`. */
const LETTER_V_OR_U = 5;
const KINDS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte).toLowerCase();
  if (byte >= 0x80) return BEYOND_ASCII;
  if (/\d/.test(character)) return DIGIT;
  if (character === "c") return LETTER_C;
  if (character === "v" || character === "u") return LETTER_V_OR_U;
  return /[a-z]/.test(character) ? LETTER : OTHER;
});

/**
 * The quick look is an automaton, so that a byte costs two look-ups and no guess of the processor. States: how many digits since
 * the last letter (0 to 12), or what was read since the last byte that is no letter:
 */
const ONE_LETTER = 13;
const LETTERS = 14;
const ONE_C = 15;
const LETTERS_AND_C = 16;
const LETTERS_AND_DIGIT = 17;
/** As many digits as a card number has. */
const ENOUGH_DIGITS = 18;
/** Letters and two digits, or `cv` or `cu`: `isBeginning` tells. */
const PERHAPS = 19;
const STATE_BITS = 3;

const NEXT = (() => {
  const next = new Uint8Array(20 << STATE_BITS);
  const set = (state: number, ...states: readonly number[]) => next.set(states, state << STATE_BITS);
  for (let digits = 0; digits < MIN_CARD_DIGITS; digits += 1) {
    const more = digits + 1 === MIN_CARD_DIGITS ? ENOUGH_DIGITS : digits + 1;
    set(digits, digits, more, more, ONE_LETTER, ONE_C, ONE_LETTER);
  }
  set(ONE_LETTER, 0, 1, 1, LETTERS, LETTERS_AND_C, LETTERS);
  set(LETTERS, 0, LETTERS_AND_DIGIT, 1, LETTERS, LETTERS_AND_C, LETTERS);
  set(ONE_C, 0, 1, 1, LETTERS, LETTERS_AND_C, PERHAPS);
  set(LETTERS_AND_C, 0, LETTERS_AND_DIGIT, 1, LETTERS, LETTERS_AND_C, PERHAPS);
  set(LETTERS_AND_DIGIT, 1, PERHAPS, 2, ONE_LETTER, ONE_C, ONE_LETTER);
  return next;
})();

/**
 * Whether the bytes of a request, or of a text, are worth a closer look: never false when there is something to find. One pass
 * without decoding anything; the ids, names and amounts of a plain transfer give no cause.
 */
export function mayHoldCardData(bytes: Uint8Array, length = bytes.length): boolean {
  let state = 0;
  for (let index = 0; index < length; index += 1) {
    const kind = KINDS[bytes[index] as number] as number;
    state = NEXT[(state << STATE_BITS) | kind] as number;
    if (state < ENOUGH_DIGITS) continue;
    if (state === ENOUGH_DIGITS || isBeginning(bytes, index, kind)) return true;
    state = kind === DIGIT ? 2 : LETTERS;
  }
  return false;
}

const LOWER_CASE_BIT = 0x20;
const LETTER_BITS = 0x1f;

/** Whether what ends here begins an IBAN or names a verification value. */
function isBeginning(bytes: Uint8Array, index: number, kind: number): boolean {
  if (kind !== DIGIT)
    return /cv[vcnd]|ecu/i.test(String.fromCharCode(...bytes.subarray(Math.max(0, index - 2), index + 2)));
  const first = bytes[index - 3] as number;
  const second = bytes[index - 2] as number;
  if (IBAN_COUNTRIES[((first & LETTER_BITS) << 5) | (second & LETTER_BITS)] === 0) return false;
  if (((first | second) & LOWER_CASE_BIT) === 0) return true;
  // It begins a word; but in the bytes of a message the one before a text is its length, which may look like a letter.
  return !(isAlphanumeric(bytes[index - 4]) && isAlphanumeric(bytes[index - 5]));
}

function isAlphanumeric(byte: number | undefined): boolean {
  const kind = byte === undefined ? OTHER : (KINDS[byte] as number);
  return kind === DIGIT || kind >= LETTER;
}

const scratch = Buffer.allocUnsafeSlow(4 * 1024);
const MAX_BYTES_PER_UNIT = 3;

function textMayHoldCardData(text: string): boolean {
  if (text.length * MAX_BYTES_PER_UNIT > scratch.length) return mayHoldCardData(Buffer.from(text));
  return mayHoldCardData(scratch, scratch.write(text));
}

/** The path of the first text of a decoded message that holds such data. */
function findInMessage(value: unknown, path: string, isMap: boolean): { field: string; what: CardData } | undefined {
  if (typeof value === "string") {
    const what = findCardData(value, path.slice(path.lastIndexOf(".") + 1));
    return what === undefined ? undefined : { field: path, what };
  }
  if (typeof value !== "object" || value === null || value instanceof Date || value instanceof Uint8Array)
    return undefined;
  for (const [key, part] of Object.entries(value)) {
    // A key of a map is the caller's own text too: the map is named then, not the key.
    const whatKey = isMap && textMayHoldCardData(key) ? findCardData(key, "") : undefined;
    if (whatKey !== undefined) return { field: path, what: whatKey };
    if (isMap && /^\D*\d{3,4}\D*$/.test(String(part)) && isVerificationName(key)) {
      return { field: `${path}.${key}`, what: "verification_value" };
    }
    // There may be thousands of parts: most need no path.
    if (typeof part === "string" ? !textMayHoldCardData(part) : typeof part !== "object") continue;
    const found = findInMessage(part, childPath(value, path, key, isMap), key === MAP_FIELD);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The one map that messages have; its keys are not names of the contract. */
const MAP_FIELD = "metadata";

function childPath(parent: object, path: string, key: string, isMap: boolean): string {
  if (Array.isArray(parent)) return `${path}[${key}]`;
  const name = isMap ? key : key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return path === "" ? name : `${path}.${name}`;
}

/** What a text holds. `field` is the last part of its name: phone numbers and idempotency keys are looked at less severely. */
export function findCardData(text: string, field = ""): CardData | undefined {
  const plain = maskOwnIds(normalize(text));
  if (VERIFICATION_VALUE.test(plain)) return "verification_value";
  if (holdsIban(plain)) return "bank_account_number";
  if (DECIMAL.test(plain)) return undefined;
  // 15 digits at most (E.164); a card's would be refused by the country code.
  if (field === "phone" && /^\+(?:[\s().-]*\d){7,15}$/.test(plain)) return undefined;
  return holdsCardNumber(plain, field === "idempotency_key") ? "card_number" : undefined;
}

/**
 * Digits of every script become 0 to 9, wide and ringed forms the plain ones, and what nobody sees goes: before as well, since
 * to put a long run of marks in order takes the square of its length.
 */
function normalize(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: most texts are ASCII and stay as they are
  if (/^[\u0000-\u007f]*$/.test(text)) return text;
  return text
    .replaceAll(UNSEEN, "")
    .normalize("NFKC")
    .replaceAll(UNSEEN, "")
    .replaceAll(/(?![0-9])\p{Nd}/gu, digitOf);
}

const UNSEEN = /[\p{Cf}\p{M}]+/gu;
/** By character: there are some hundreds. */
const knownDigits = new Map<string, string>();

/** Unicode's decimal digits come in tens, each of which begins at a code point that ends in 0 or 6 (hexadecimal). */
function digitOf(character: string): string {
  let digit = knownDigits.get(character);
  if (digit === undefined) {
    const code = character.codePointAt(0) as number;
    const low = code & 0xf;
    const beginsAt0 = /\p{Nd}/u.test(String.fromCodePoint(code - low));
    digit = String(beginsAt0 ? low : low - 6);
    knownDigits.set(character, digit);
  }
  return digit;
}

const VERIFICATION_VALUE =
  /(?:\bcv[vcnd]2?|security[\s_-]?code)[^a-z0-9]{0,5}(?:(?:is|number|code|value|no)[^a-z0-9]{0,5})?\d{3,4}(?!\d)/i;

function isVerificationName(key: string): boolean {
  return /^(?:card)?(?:cv[vcnd]2?|csc|securitycode|verificationvalue|verificationcode)$/.test(
    key.toLowerCase().replaceAll(/[^a-z0-9]/g, ""),
  );
}

/** A rate: no number of a card is written so. */
const DECIMAL = /^-?\d{1,18}\.\d{1,18}$/;

const TYPE_ID = /(?<![a-z0-9])[a-z]{2,8}_[0-7][0-9a-hjkmnp-tv-z]{25}(?![a-z0-9])/g;
const UUID = /(?<![a-z0-9])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?![a-z0-9])/gi;
/** A hash, as text: it has a letter sooner or later. */
const LONG_HEXADECIMAL = /(?<![a-z0-9])(?=\d*[a-f])[0-9a-f]{32,128}(?![a-z0-9])/gi;
const MASK = "|";

/** Ids and hashes hold runs of digits by chance, so what is one for certain is not looked into. */
function maskOwnIds(text: string): string {
  return text
    .replaceAll(TYPE_ID, (id) => (parseId(id) === undefined ? id : MASK))
    .replaceAll(UUID, MASK)
    .replaceAll(LONG_HEXADECIMAL, MASK);
}

/** The longest that stands between two groups of one number, in units of UTF-16: three characters. */
const MAX_SEPARATOR_UNITS = 6;
/** Between two groups of one number. */
const SEPARATOR = /^(?:[\s\p{Pd}\u2212\p{Cc}]{1,3}|[._])$/u;
const IS_SEPARATOR = Uint8Array.from({ length: 128 }, (_, code) => (SEPARATOR.test(String.fromCharCode(code)) ? 1 : 0));

/**
 * The last groups of digits that were read, and the last digits, by their number modulo the size: a card number has at most 19
 * of either. Strangers choose the text, so a digit costs the same whatever is around it: each group is looked at as the end of a
 * number with at most 18 before it, and Luhn's sum is the difference of two running sums.
 */
const RECENT = 32;
const RECENT_MASK = RECENT - 1;
const groupStarts = new Int32Array(RECENT);
/** The number of a group's first digit among all digits of the text. */
const groupFirstDigits = new Int32Array(RECENT);
/** Luhn's running sum before a group, with the digits of even number counted twice, and with the others. */
const groupSums = [new Int32Array(RECENT), new Int32Array(RECENT)] as const;
const recentDigits = new Uint8Array(RECENT);
const TWICE = Uint8Array.from({ length: 10 }, (_, digit) => (digit > 4 ? digit * 2 - 9 : digit * 2));

/** In one piece, or in several with separators between them. `sure`: only what is a card of a known network. */
function holdsCardNumber(text: string, sure: boolean): boolean {
  const sums: [number, number] = [0, 0];
  let count = 0;
  let oldest = 0;
  let end = 0;
  for (let group = 0, index = 0; ; group += 1) {
    while (index < text.length && !isDigitAt(text, index)) index += 1;
    if (index === text.length) return false;
    if (!isSeparator(text, end, index)) oldest = group;
    const start = index;
    const slot = group & RECENT_MASK;
    groupStarts[slot] = start;
    groupFirstDigits[slot] = count;
    groupSums[0][slot] = sums[0];
    groupSums[1][slot] = sums[1];
    for (; isDigitAt(text, index); index += 1, count += 1) {
      const digit = text.charCodeAt(index) - DIGIT_0;
      const parity = (count & 1) as 0 | 1;
      recentDigits[count & RECENT_MASK] = digit;
      sums[parity] += TWICE[digit] as number;
      sums[parity === 0 ? 1 : 0] += digit;
    }
    end = index;
    if (end - start > MAX_CARD_DIGITS) {
      if (!isFraction(text, start) && beginsWithCard(text.slice(start, end))) return true;
      oldest = group + 1;
      continue;
    }
    // The last digit but one counts twice, and its number is as even as the count.
    const parity = (count & 1) as 0 | 1;
    for (let from = group; from >= oldest; from -= 1) {
      const length = count - (groupFirstDigits[from & RECENT_MASK] as number);
      if (length > MAX_CARD_DIGITS) break;
      if (length < MIN_CARD_DIGITS) continue;
      if ((sums[parity] - (groupSums[parity][from & RECENT_MASK] as number)) % 10 !== 0) continue;
      if (isCardNumber(text, from, group, length, end, sure)) return true;
    }
  }
}

function isDigitAt(text: string, index: number): boolean {
  const value = text.charCodeAt(index) - DIGIT_0;
  return value >= 0 && value <= 9;
}

function isSeparator(text: string, start: number, end: number): boolean {
  const units = end - start;
  if (units === 0 || units > MAX_SEPARATOR_UNITS) return false;
  if (units === 1 && text.charCodeAt(start) < 128) return IS_SEPARATOR[text.charCodeAt(start)] === 1;
  return SEPARATOR.test(text.slice(start, end));
}

/** Behind `0.` stands the fraction of a number below one. */
function isFraction(text: string, start: number): boolean {
  return text[start - 1] === "." && text[start - 2] === "0" && !isDigitAt(text, start - 3);
}

/** Digits that pass Luhn's check, in the groups from one to another, behind which the text goes on at `end`. */
function isCardNumber(text: string, from: number, to: number, length: number, end: number, sure: boolean): boolean {
  const start = groupStarts[from & RECENT_MASK] as number;
  const firstDigit = groupFirstDigits[from & RECENT_MASK] as number;
  let prefix = 0;
  for (let digit = firstDigit; digit < firstDigit + PREFIX_DIGITS; digit += 1) {
    prefix = prefix * 10 + (recentDigits[digit & RECENT_MASK] as number);
  }
  if (!isPlausible(prefix, length, to - from + 1) || isFraction(text, start)) return false;
  if (isGroupedAsOnCard(from, to, length)) return !sure || isOfNetwork(prefix, length);
  // Dates and numbers of orders are grouped so too: it takes a known network, and nothing of a word right before or behind.
  return !sure && isOfNetwork(prefix, length) && !/[a-z0-9.]/i.test((text[start - 1] ?? " ") + (text[end] ?? " "));
}

/**
 * Whether there are cards of such a number (ISO/IEC 7812-1: the first digit is the industry): none begins with 0; with 1 only
 * airlines' of 15 digits in one piece; with 2 only those of 2200 to 2204 and 2221 to 2720. So times in milliseconds,
 * microseconds or nanoseconds, and written as 20261121…, are no card numbers.
 */
function isPlausible(prefix: number, length: number, groups: number): boolean {
  switch (Math.trunc(prefix / 1_000)) {
    case 0:
      return false;
    case 1:
      return length === 15 && groups === 1;
    case 2:
      return isOfNetwork(prefix, length);
    default:
      return true;
  }
}

/** 4 digits each, and at most 3 more. */
const MAX_GROUPS_ON_CARD = 5;

/** 4111 1111 1111 1111, 3782 822463 10005, 3056 930902 5904, and the like. */
function isGroupedAsOnCard(from: number, to: number, length: number): boolean {
  if (from === to) return true;
  if (to - from >= MAX_GROUPS_ON_CARD) return false;
  const first = groupFirstDigits[from & RECENT_MASK] as number;
  const sizes: number[] = [];
  let before = 0;
  for (let group = from + 1; group <= to; group += 1) {
    const digits = (groupFirstDigits[group & RECENT_MASK] as number) - first;
    sizes.push(digits - before);
    before = digits;
  }
  const last = length - before;
  return (last <= 4 && sizes.every((size) => size === 4)) || OTHER_GROUPINGS.has([...sizes, last].join("-"));
}

const OTHER_GROUPINGS: ReadonlySet<string> = new Set(["4-6-4", "4-6-5", "4-5-6", "6-13", "8-8"]);

const PREFIX_DIGITS = 4;
const ANY_FROM_13 = [13, 14, 15, 16, 17, 18, 19];
const ANY_FROM_14 = ANY_FROM_13.slice(1);
const ANY_FROM_15 = ANY_FROM_13.slice(2);
const ANY_FROM_16 = ANY_FROM_13.slice(3);

/** Issuer identification ranges of the card networks, by their first four digits, with the lengths that they have. */
const NETWORKS: readonly (readonly [name: string, first: number, last: number, lengths: readonly number[]])[] = [
  ["Visa", 4000, 4999, [13, 16, 18, 19]],
  ["Mastercard", 5100, 5599, [16]],
  ["Mastercard", 2221, 2720, [16]],
  ["American Express", 3400, 3499, [15]],
  ["American Express", 3700, 3799, [15]],
  ["Diners Club", 3000, 3059, ANY_FROM_14],
  ["Diners Club", 3095, 3095, ANY_FROM_15],
  ["Diners Club", 3600, 3699, ANY_FROM_14],
  ["Diners Club", 3800, 3999, ANY_FROM_14],
  ["JCB", 3528, 3589, ANY_FROM_16],
  ["Mir", 2200, 2204, ANY_FROM_16],
  ["Maestro", 5000, 5099, ANY_FROM_13],
  ["Maestro", 5600, 5999, ANY_FROM_13],
  ["Maestro, Discover, UnionPay, RuPay", 6000, 6999, ANY_FROM_13],
  ["UnionPay, RuPay", 8100, 8299, ANY_FROM_16],
];

/** By the first four digits: a bit for each length. */
const NETWORK_LENGTHS = new Uint32Array(10 ** PREFIX_DIGITS);
for (const [, first, last, lengths] of NETWORKS) {
  const bits = lengths.reduce((sum, length) => sum | (1 << length), 0);
  for (let prefix = first; prefix <= last; prefix += 1) NETWORK_LENGTHS[prefix] = (NETWORK_LENGTHS[prefix] ?? 0) | bits;
}

function isOfNetwork(prefix: number, length: number): boolean {
  return (((NETWORK_LENGTHS[prefix] as number) >> length) & 1) === 1;
}

/** Longer than any card number: one with its expiry and verification value right behind. */
function beginsWithCard(digits: string): boolean {
  const significant = digits.replace(/^0+/, "");
  const prefix = Number(significant.slice(0, PREFIX_DIGITS));
  for (let length = MIN_CARD_DIGITS; length <= MAX_CARD_DIGITS; length += 1) {
    const number = significant.slice(0, length);
    if (number.length === length && isOfNetwork(prefix, length) && passesLuhn(number)) return true;
  }
  return false;
}

/** From the right every second digit counts twice, less nine when above nine; the sum ends in 0. */
export function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let index = 0; index < digits.length; index += 1) {
    const digit = digits.charCodeAt(digits.length - 1 - index) - DIGIT_0;
    const doubled = index % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}

const IBAN_START = /(?<![a-z0-9])[a-z]{2}\d{2}/gi;
const MAX_IBAN_SEPARATORS = 34;
const IBAN_SEPARATOR = /^[\s.\p{Pd}]$/u;
/** What a letter or digit counts as; for others, whether it may separate. */
const IBAN_SEPARATES = 64;
const IBAN_ENDS = 65;
const IBAN_VALUES = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  if (/[a-z0-9]/i.test(character)) return Number.parseInt(character, 36);
  return IBAN_SEPARATOR.test(character) ? IBAN_SEPARATES : IBAN_ENDS;
});

/** An IBAN, as machines or as people write it. */
function holdsIban(text: string): boolean {
  for (const { index } of text.matchAll(IBAN_START)) {
    const length = IBAN_LENGTHS.get(text.slice(index, index + 2).toUpperCase());
    if (length !== undefined && isIban(text, index, length)) return true;
  }
  return false;
}

/** ISO 7064: the first four characters go to the end, letters count as 10 to 35, and the number is 1 modulo 97. */
function isIban(text: string, start: number, length: number): boolean {
  const end = Math.min(text.length, start + length + MAX_IBAN_SEPARATORS);
  let first = 0;
  let remainder = 0;
  let count = 0;
  for (let index = start; index < end && count < length; index += 1) {
    const value = ibanValueAt(text, index);
    if (value === IBAN_SEPARATES) continue;
    if (value === IBAN_ENDS) return false;
    // The first four are two letters and two digits, so they are six digits of the number.
    if (count < 4) first = first * (value > 9 ? 100 : 10) + value;
    else remainder = (remainder * (value > 9 ? 100 : 10) + value) % 97;
    count += 1;
  }
  return count === length && (remainder * 1_000_000 + first) % 97 === 1;
}

function ibanValueAt(text: string, index: number): number {
  const code = text.charCodeAt(index);
  if (code < 128) return IBAN_VALUES[code] as number;
  return IBAN_SEPARATOR.test(text.charAt(index)) ? IBAN_SEPARATES : IBAN_ENDS;
}

/** Of the IBAN registry (ISO 13616), by country. */
const IBAN_LENGTHS: ReadonlyMap<string, number> = new Map(
  (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 " +
    "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 " +
    "LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 " +
    "SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
  )
    .split(" ")
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
);

/** By the places of its two letters in the alphabet: 1 for a country that has IBANs. */
const IBAN_COUNTRIES = new Uint8Array(32 * 32);
for (const country of IBAN_LENGTHS.keys()) {
  IBAN_COUNTRIES[((country.charCodeAt(0) & LETTER_BITS) << 5) | (country.charCodeAt(1) & LETTER_BITS)] = 1;
}
