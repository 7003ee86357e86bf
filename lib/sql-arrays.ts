/**
 * Postgres array literals, for `unnest` in set-based statements. `pg` writes JavaScript arrays too, but escapes every element;
 * these are several times cheaper on the hot path.
 */

/** Of values that need no quoting: UUIDs, TypeIDs, integers, RFC 3339 times, currency codes. Not of words: `null` is one. */
export function plainArray(values: readonly (string | number | bigint)[]): string {
  return `{${values.join(",")}}`;
}

/** Of any text; null stands for SQL null. The text holds no NUL. */
export function textArray(values: readonly (string | null)[]): string {
  return `{${values.map((value) => (value === null ? "NULL" : quote(value))).join(",")}}`;
}

/**
 * Of JSON, not as an array but joined, for `string_to_array($1, E'\\x1f', '')`: quoting JSON for an array escapes every quote of
 * it, and Postgres takes each back. JSON holds no control character. Null stands for SQL null.
 */
export function joinedJson(values: readonly (string | null)[]): string {
  return values.join("\x1f");
}

/** Of bytes. */
export function bytesArray(values: readonly Buffer[]): string {
  return `{${values.map((value) => `"\\\\x${value.toString("hex")}"`).join(",")}}`;
}

function quote(text: string): string {
  return `"${text.includes('"') || text.includes("\\") ? text.replaceAll(/["\\]/g, "\\$&") : text}"`;
}
