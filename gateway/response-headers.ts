import { type Json, named } from "#gateway/envoy.ts";

/** What every answer says to a browser, and who else's pages may read it. */

/** A route that serves a page says its own policy instead. */
const SECURITY_HEADERS = {
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
};
/** Over TLS only: a browser ignores it elsewhere. One year. */
const TRANSPORT_SECURITY = { "strict-transport-security": "max-age=31536000; includeSubDomains" };

const PREFLIGHT_VALID_SECONDS = 600;
const CORS_METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"];
const CORS_REQUEST_HEADERS = ["authorization", "content-type", "idempotency-key", "x-read-after"];
const CORS_ANSWER_HEADERS = [
  "idempotent-replayed",
  "retry-after",
  "www-authenticate",
  "x-ledger-position",
  "x-ratelimit-limit",
  "x-ratelimit-remaining",
  "x-ratelimit-reset",
  "x-request-id",
];

/** The headers of every answer, unless it has them already: as mutations, and as additions to Envoy's own answers. */
export function answerHeaders(isTls: boolean): Json[] {
  return Object.entries({ ...SECURITY_HEADERS, ...(isTls && TRANSPORT_SECURITY) }).map(([key, value]) => ({
    header: { key, value },
    append_action: "ADD_IF_ABSENT",
  }));
}

/** Answers preflights of the allowed origins, and lets their pages read answers. */
export function corsFilter(): Json {
  return named("envoy.filters.http.cors", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors",
  });
}

/** The `typed_per_filter_config` of it. Whoever is allowed brings a token, never cookies or certificates. */
export function corsPolicy(allowedOrigins: readonly string[]): Json {
  return {
    "envoy.filters.http.cors": {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
      allow_origin_string_match: allowedOrigins.map((exact) => ({ exact })),
      allow_methods: CORS_METHODS.join(", "),
      allow_headers: CORS_REQUEST_HEADERS.join(", "),
      expose_headers: CORS_ANSWER_HEADERS.join(", "),
      max_age: String(PREFLIGHT_VALID_SECONDS),
      allow_credentials: false,
      // Of other origins they are answered too, with nothing that would allow anything.
      forward_not_matching_preflights: false,
    },
  };
}
