import { createHmac, timingSafeEqual } from "node:crypto";
import { malformed, type Refusal } from "#lib/refusal.ts";

/**
 * Page tokens: where the next page begins, signed so that nobody can make one up, and bound to the list they came from
 * (`scope`: the RPC, the caller and every filter), so that a token of another list is refused.
 *
 * Shape: base64url(JSON of {s: hash of scope, c: cursor, e: expiry}) "." base64url(HMAC-SHA256 of that, 16 bytes).
 */
const MAX_TOKEN_LENGTH = 4096;
const MAC_BYTES = 16;
/** How long a client may take between two pages. */
export const PAGE_TOKEN_LIFETIME_MS = 24 * 60 * 60 * 1000;

export interface PageTokens {
  /** A token for a cursor: strings only, so that no number loses digits. */
  seal(scope: readonly string[], cursor: readonly string[]): string;
  /** The cursor of a token. Throws a Refusal (INVALID_ARGUMENT, `PAGE_TOKEN_INVALID`) for a forged, foreign or expired one. */
  open(scope: readonly string[], token: string): string[];
}

/** Page tokens under one secret key (at least 16 bytes) and a clock in ms since 1970. */
export function pageTokens(key: Buffer, nowMs: () => number): PageTokens {
  if (key.length < 16) throw new Error("the page token key is too short: at least 16 bytes are needed");
  const mac = (text: string) => createHmac("sha256", key).update(text).digest().subarray(0, MAC_BYTES);
  const hashScope = (scope: readonly string[]) => mac(`scope ${JSON.stringify(scope)}`).toString("base64url");
  return {
    seal(scope, cursor) {
      const body = JSON.stringify({ s: hashScope(scope), c: cursor, e: nowMs() + PAGE_TOKEN_LIFETIME_MS });
      const text = Buffer.from(body).toString("base64url");
      return `${text}.${mac(text).toString("base64url")}`;
    },
    open(scope, token) {
      const [text, signature, ...rest] = token.length > MAX_TOKEN_LENGTH ? [] : token.split(".");
      if (text === undefined || signature === undefined || rest.length > 0) throw invalid();
      const given = Buffer.from(signature, "base64url");
      if (given.length !== MAC_BYTES || !timingSafeEqual(given, mac(text))) throw invalid();
      const body = JSON.parse(Buffer.from(text, "base64url").toString()) as { s: string; c: string[]; e: number };
      if (body.s !== hashScope(scope) || body.e < nowMs()) throw invalid();
      return body.c;
    },
  };
}

function invalid(): Refusal {
  return malformed(
    [
      {
        field: "page_token",
        description: "is not the next_page_token of an earlier page of this list with the same filters, or is too old",
      },
    ],
    "PAGE_TOKEN_INVALID",
  );
}
