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
      `${field}.${key.slice(0, MAX_METADATA_KEY_CHARACTERS)}`,
      `is longer than ${MAX_METADATA_VALUE_CHARACTERS} characters or holds control characters`,
    );
  }
  check.require(pairs <= MAX_METADATA_PAIRS, field, `has more than ${MAX_METADATA_PAIRS} pairs`);
}
