import type { CallClass } from "#gateway/contract.ts";
import { type Json, named } from "#gateway/envoy.ts";

/**
 * How many calls of a class one client address may make. Every address has a bucket per class in each Envoy; it refills
 * evenly. The address is the one that Envoy trusts (use_remote_address and the trusted hops), never what a client claims.
 */

/** `calls` at once, and as many again within each `windowSeconds`. */
export interface RateLimit {
  readonly calls: number;
  readonly windowSeconds: number;
}

export type RateLimits = Readonly<Record<CallClass, RateLimit>>;

/** Strict enough for strangers, and enough for an office behind one address; a merchant's servers may need more. */
export const DEFAULT_RATE_LIMITS: RateLimits = {
  sign_in: { calls: 30, windowSeconds: 60 },
  command: { calls: 3_000, windowSeconds: 60 },
  query: { calls: 6_000, windowSeconds: 60 },
};

/** Addresses that are remembered per class. Beyond it the one that was silent for longest is forgotten, and starts anew. */
const MAX_ADDRESSES = 50_000;
/** Whoever has one IPv6 address has all of its /64. */
const IPV6_PREFIX_BITS = 64;

const METADATA = "ledgermesh.rate_limits";
const FULL = { default_value: { numerator: 100, denominator: "HUNDRED" } };

/** Counts calls by the class of their route, before anything is read or checked that costs more. */
export function rateLimitFilter(limits: RateLimits): Json {
  return named("envoy.filters.http.local_ratelimit", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    stat_prefix: "client_address",
    filter_enabled: FULL,
    filter_enforced: FULL,
    always_consume_default_token_bucket: false,
    rate_limits: [{ actions: [callClassOfRoute(), clientAddress()] }],
    // Without a value the entry stands for every address, each with a bucket of its own.
    descriptors: Object.entries(limits).map(([callClass, { calls, windowSeconds }]) => ({
      entries: [{ key: "call_class", value: callClass }, { key: "masked_remote_address" }],
      token_bucket: { max_tokens: calls, tokens_per_fill: calls, fill_interval: `${windowSeconds}s` },
    })),
    max_dynamic_descriptors: MAX_ADDRESSES,
    enable_x_ratelimit_headers: "DRAFT_VERSION_03",
    enable_retry_after_header: true,
  });
}

/** What leads nowhere counts as a query: looking around is not free. */
function callClassOfRoute(): Json {
  return {
    metadata: {
      source: "ROUTE_ENTRY",
      descriptor_key: "call_class",
      metadata_key: { key: METADATA, path: [{ key: "call_class" }] },
      default_value: "query" satisfies CallClass,
    },
  };
}

function clientAddress(): Json {
  return { masked_remote_address: { v6_prefix_mask_len: IPV6_PREFIX_BITS } };
}

/** The metadata by which a route says what it counts as. */
export function countedAs(callClass: CallClass): Json {
  return { [METADATA]: { call_class: callClass } };
}
