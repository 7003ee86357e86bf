import type { Json } from "#gateway/envoy.ts";
import { tokenFailure } from "#gateway/token-check.ts";

/**
 * Envoy's own refusals, in the one error shape. Envoy takes the first mapper whose filter fits.
 *
 * What is certain about the outcome decides the status: UNAVAILABLE is answered only when the service cannot have seen
 * the call (the contract promises that nothing has happened); when the connection broke or the time ran out after the
 * call was sent, the answer says that the outcome is not known.
 */

interface ErrorAnswer {
  /** A number of google.rpc.Code. */
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  /** Trying again later can help: in so many seconds, or when the header of the answer says. */
  /** Of the header `www-authenticate`, which every 401 has. */
  readonly challenge?: string;
  readonly retryAfterSeconds?: number | "%RESP(RETRY-AFTER)%";
}

/** Which of Envoy's own answers it is for: by any of Envoy's flags for why it answers, by what a filter left, or by status. */
type LocalReply = ErrorAnswer &
  (
    | { readonly flags: readonly string[]; readonly answerStatus: number }
    | { readonly filter: Json; readonly answerStatus: number }
    | { readonly httpStatus: number }
  );

const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;
const UNKNOWN = 2;
const RESOURCE_EXHAUSTED = 8;
const UNIMPLEMENTED = 12;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const UNAUTHENTICATED = 16;

/** Envoy's own words: for the cases in which only they say what is wrong with the request. */
const ENVOYS_WORDS = "the gateway cannot take this request: %RESPONSE_CODE_DETAILS% %LOCAL_REPLY_BODY%";
const OUTCOME_NOT_KNOWN = "whether it was done is not known; repeat it with the same idempotency key to find out";

const CHALLENGE = 'Bearer realm="ledgermesh"';
const BAD_TOKEN_CHALLENGE = `${CHALLENGE}, error="invalid_token"`;
/** Of google::jwt_verify::Status. */
const [JWT_MISSED, JWT_EXPIRED, KEYS_NOT_FETCHED] = [1, 3, 40];

const NO_TOKEN: ErrorAnswer = {
  code: UNAUTHENTICATED,
  reason: "TOKEN_REQUIRED",
  message: "This needs an access token: sign in and send it as `authorization: Bearer TOKEN`.",
  challenge: CHALLENGE,
};

const LOCAL_REPLIES: readonly LocalReply[] = [
  // token-check.ts; the words are those of lib/access-refusals.ts.
  {
    filter: tokenFailure(JWT_EXPIRED),
    answerStatus: 401,
    code: UNAUTHENTICATED,
    reason: "TOKEN_EXPIRED",
    message: "The access token is over. Take a new one with the refresh token, or sign in again.",
    challenge: BAD_TOKEN_CHALLENGE,
  },
  {
    filter: tokenFailure(KEYS_NOT_FETCHED),
    answerStatus: 503,
    code: UNAVAILABLE,
    reason: "SIGNING_KEYS_UNKNOWN",
    message: "The key of this access token cannot be looked up at the moment. Nothing has happened; try again.",
    retryAfterSeconds: 5,
  },
  // Of several keys to look for it by, Envoy says it by the status alone.
  { ...NO_TOKEN, filter: tokenFailure(JWT_MISSED), answerStatus: 401 },
  {
    filter: tokenFailure(),
    answerStatus: 401,
    code: UNAUTHENTICATED,
    reason: "TOKEN_INVALID",
    message: "The access token is not accepted: %LOCAL_REPLY_BODY%. Sign in again.",
    challenge: BAD_TOKEN_CHALLENGE,
  },
  { ...NO_TOKEN, httpStatus: 401 },
  // Connection lost, stream reset or protocol broken after the call was sent.
  {
    flags: ["UC", "UR", "LR", "UPE"],
    answerStatus: 502,
    code: UNKNOWN,
    reason: "OUTCOME_UNKNOWN",
    message: `the connection to the service was lost before it answered: ${OUTCOME_NOT_KNOWN}`,
  },
  // No time left for the service, or it was silent for too long.
  {
    flags: ["UT", "UMSDR", "DT"],
    answerStatus: 504,
    code: DEADLINE_EXCEEDED,
    reason: "GATEWAY_TIMEOUT",
    message: `the service did not answer in time: ${OUTCOME_NOT_KNOWN}`,
  },
  // rate-limits.ts
  {
    httpStatus: 429,
    code: RESOURCE_EXHAUSTED,
    reason: "RATE_LIMITED",
    message:
      "too many calls of this kind come from this address; nothing has happened, see Retry-After and x-ratelimit-*",
    retryAfterSeconds: "%RESP(RETRY-AFTER)%",
  },
  // A bound on calls under way, or on memory.
  {
    flags: ["UO", "OM"],
    answerStatus: 503,
    code: UNAVAILABLE,
    reason: "OVERLOADED",
    message: "too many calls are under way; nothing has happened, try again later",
    retryAfterSeconds: 1,
  },
  // No connection to the service came about.
  {
    flags: ["UF", "UH", "NC", "URX"],
    answerStatus: 503,
    code: UNAVAILABLE,
    reason: "SERVICE_UNAVAILABLE",
    message: "the service cannot be reached; nothing has happened, try again later",
    retryAfterSeconds: 1,
  },
  {
    httpStatus: 403,
    code: UNIMPLEMENTED,
    reason: "UPGRADE_REFUSED",
    message: "the gateway tunnels nothing and speaks nothing but HTTP: no CONNECT, no upgrade of the connection",
  },
  {
    httpStatus: 404,
    code: NOT_FOUND,
    reason: "ROUTE_NOT_FOUND",
    message: "there is nothing at this path",
  },
  {
    httpStatus: 405,
    code: UNIMPLEMENTED,
    reason: "METHOD_NOT_ALLOWED",
    message: "this path has another method: see the header Allow",
  },
  {
    httpStatus: 408,
    code: DEADLINE_EXCEEDED,
    reason: "REQUEST_TIMEOUT",
    message: "the request did not arrive in time; nothing has happened",
  },
  {
    httpStatus: 413,
    code: INVALID_ARGUMENT,
    reason: "BODY_TOO_LARGE",
    message: "the body is too large: at most 64 KB, for batches 8 MB",
  },
  {
    httpStatus: 431,
    code: INVALID_ARGUMENT,
    reason: "HEADERS_TOO_LARGE",
    message: "the headers are too large: at most 32 KB in 100 headers",
  },
  {
    httpStatus: 504,
    code: DEADLINE_EXCEEDED,
    reason: "GATEWAY_TIMEOUT",
    message: `the service did not answer in time: ${OUTCOME_NOT_KNOWN}`,
  },
  {
    httpStatus: 503,
    code: UNAVAILABLE,
    reason: "OVERLOADED",
    message: "the gateway cannot take this call now; nothing has happened, try again later",
    retryAfterSeconds: 1,
  },
  {
    httpStatus: 500,
    code: INTERNAL,
    reason: "INTERNAL",
    message: `something failed in the gateway: ${OUTCOME_NOT_KNOWN}`,
  },
];

/** filter.lua writes whole answers, and marks them. */
const WRITTEN_BY_LUA = {
  filter: {
    metadata_filter: {
      matcher: {
        filter: "ledgermesh.gateway",
        path: [{ key: "is_refusal" }],
        value: { bool_match: true },
      },
      match_if_key_not_found: false,
    },
  },
  body_format_override: {
    content_type: "application/json",
    text_format_source: { inline_string: "%LOCAL_REPLY_BODY%" },
  },
};

/** `local_reply_config` of the HTTP connection manager; `headers` are those that every answer has. */
export function localReplyConfig(headers: readonly Json[]): Json {
  const mappers = [
    WRITTEN_BY_LUA,
    ...LOCAL_REPLIES.map((reply) => ({
      filter: toFilter(reply),
      ...("answerStatus" in reply && { status_code: reply.answerStatus }),
      body_format_override: errorFormat(reply),
      headers_to_add: ownHeaders(reply),
    })),
    // The others are 4xx: the request is at fault, and Envoy says how.
    {
      filter: statusFilter("GE", 400),
      body_format_override: errorFormat({
        code: INVALID_ARGUMENT,
        reason: "MALFORMED_REQUEST",
        message: ENVOYS_WORDS,
      }),
    },
  ];
  // A request that Envoy cannot even read passes no filter, so these are added here as well.
  return {
    mappers: mappers.map((mapper) => ({
      ...mapper,
      headers_to_add: [...("headers_to_add" in mapper ? mapper.headers_to_add : []), ...headers],
    })),
  };
}

function ownHeaders({ retryAfterSeconds, challenge }: ErrorAnswer): Json[] {
  const headers: Json[] = [];
  if (typeof retryAfterSeconds === "number") {
    headers.push({ header: { key: "retry-after", value: String(retryAfterSeconds) }, append_action: "ADD_IF_ABSENT" });
  }
  // Envoy's own repeats what the client calls this host.
  const append_action = "OVERWRITE_IF_EXISTS_OR_ADD";
  if (challenge !== undefined) headers.push({ header: { key: "www-authenticate", value: challenge }, append_action });
  return headers;
}

function toFilter(reply: LocalReply): Json {
  if ("filter" in reply) return reply.filter;
  if ("flags" in reply) return { response_flag_filter: { flags: reply.flags } };
  return statusFilter("EQ", reply.httpStatus);
}

function statusFilter(op: "EQ" | "GE", status: number): Json {
  return { status_code_filter: { comparison: { op, value: { default_value: status, runtime_key: "none" } } } };
}

/** google.rpc.Status; Envoy escapes what it puts in for `%…%`. */
function errorFormat({ code, reason, message, retryAfterSeconds }: ErrorAnswer): Json {
  const details: Json[] = [
    { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason, domain: "ledgermesh", metadata: {} },
  ];
  if (retryAfterSeconds !== undefined) {
    details.push({ "@type": "type.googleapis.com/google.rpc.RetryInfo", retry_delay: `${retryAfterSeconds}s` });
  }
  return { json_format: { code, message, details } };
}
