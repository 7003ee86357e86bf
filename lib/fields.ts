import { currencyExponent } from "#lib/currencies.ts";
import { type FieldViolation, malformed } from "#lib/refusal.ts";

/** Checking the fields of a request: every violation is collected, so that a client sees them all at once. */
export class FieldCheck {
  readonly #violations: FieldViolation[] = [];

  /** Notes a violation unless `fine`. `field` is the path in the request. */
  require(fine: boolean, field: string, description: string): fine is true {
    if (!fine) this.#violations.push({ field, description });
    return fine;
  }

  /** Throws one INVALID_ARGUMENT refusal that names every violation, if there were any. */
  done(): void {
    if (this.#violations.length > 0) throw malformed(this.#violations);
  }
}

/** C0 control characters and DEL: they never belong in a line of text, and Postgres takes no NUL. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const CONTROL_CHARACTERS = /[\u0000-\u001f\u007f]/;

/** Whether a text is at most so many characters (code points) long, without control characters. */
export function isLine(text: string, maxCharacters: number): boolean {
  if (CONTROL_CHARACTERS.test(text)) return false;
  return text.length <= maxCharacters || [...text].length <= maxCharacters;
}

export const MAX_METADATA_PAIRS = 16;
const MAX_METADATA_KEY_CHARACTERS = 40;
const MAX_METADATA_VALUE_CHARACTERS = 200;

/** Checks the pairs of a metadata field against the limits of the API. */
export function checkMetadata(check: FieldCheck, field: string, metadata: Readonly<Record<string, string>>): void {
  let pairs = 0;
  for (const key in metadata) {
    pairs += 1;
    check.require(
      key !== "" && isLine(key, MAX_METADATA_KEY_CHARACTERS),
      field,
      `has a key that is empty, longer than ${MAX_METADATA_KEY_CHARACTERS} characters or holds control characters`,
    );
    check.require(
      isLine(metadata[key] as string, MAX_METADATA_VALUE_CHARACTERS),
      `${field}.${[...key].slice(0, MAX_METADATA_KEY_CHARACTERS).join("")}`,
      `is longer than ${MAX_METADATA_VALUE_CHARACTERS} characters or holds control characters`,
    );
  }
  check.require(pairs <= MAX_METADATA_PAIRS, field, `has more than ${MAX_METADATA_PAIRS} pairs`);
}

/** Notes a violation unless the code is an ISO 4217 currency, be it withdrawn: there may be accounts in it. */
export function checkCurrency(check: FieldCheck, field: string, code: string): void {
  check.require(currencyExponent(code) !== undefined, field, "must be an ISO 4217 currency code, such as EUR");
}

const TYPE_PATTERN = /^[a-z0-9_]{1,40}$/;

/** Notes a violation unless the text is a type of transfer. */
export function checkType(check: FieldCheck, field: string, text: string): void {
  check.require(TYPE_PATTERN.test(text), field, "must be 1 to 40 characters of a-z, 0-9 and _");
}

/** What google.protobuf.Timestamp, Postgres and Elasticsearch all take: years 1 to 9999. */
const FIRST_TIME_MS = Date.parse("0001-01-01T00:00:00Z");
const LAST_TIME_MS = Date.parse("9999-12-31T23:59:59.999Z");

/** Notes a violation unless the time, if there is one, lies in the years 1 to 9999; answers whether it does. */
export function checkTime(check: FieldCheck, field: string, time: Date | undefined): boolean {
  const timeMs = time?.getTime() ?? 0;
  return check.require(
    timeMs >= FIRST_TIME_MS && timeMs <= LAST_TIME_MS,
    field,
    "must be a time in the years 1 to 9999",
  );
}

/** The size of a page: the default when it is zero, which is not given. Notes a violation when it is out of range. */
export function checkPageSize(check: FieldCheck, pageSize: number): number {
  const description = `must be 1 to ${MAX_PAGE_SIZE}, or left out for ${DEFAULT_PAGE_SIZE}`;
  check.require(pageSize >= 0 && pageSize <= MAX_PAGE_SIZE, "page_size", description);
  return pageSize === 0 ? DEFAULT_PAGE_SIZE : pageSize;
}

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 500;
