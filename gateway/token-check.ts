import { createPublicKey } from "node:crypto";
import type { ClusterName, Contract, Route } from "#gateway/contract.ts";
import { type Json, named, socketAddress } from "#gateway/envoy.ts";
import { TOKEN_AUDIENCE } from "#lib/access-token.ts";
import { DEVELOPMENT_KEY_ID } from "#lib/signing-keys.ts";

/**
 * Who has no good access token does not get past the gateway, but to what the contract opens to anybody. The services check
 * again, and more: whose token it is, whether its session was ended, what it may do.
 *
 * Envoy asks identity for its public keys every minute, by way of a listener of its own on loopback that leads to this one
 * RPC, over the same mutual TLS as any other call. While identity does not answer, the keys that it told last go on.
 */
export interface TokenSettings {
  /** `iss` of the tokens. */
  readonly issuer: string;
  /** A public key in PEM whose tokens are taken beside identity's; only in development. */
  readonly developmentKey: string | undefined;
}

const KEYS_PATH = "/.well-known/jwks.json";
const KEYS_CLUSTER = "keys";
const KEYS_REFRESH_INTERVAL = "60s";
const KEYS_RETRY_INTERVAL = "1s";
const KEYS_TIMEOUT = "2s";
const LOOPBACK = "127.0.0.1";

/** How far clocks may differ; the services allow it for a token's beginning only. */
const CLOCK_SKEW_SECONDS = 30;
/** Verified tokens that each worker remembers until they are over. */
const MAX_REMEMBERED_TOKENS = 10_000;

/** The key of the failure in the filter's metadata. */
const FAILURE = "failure";
const REQUIRED = "token";
const FILTER = "envoy.filters.http.jwt_authn";

export function tokenFilter({ issuer, developmentKey }: TokenSettings, contract: Contract): Json {
  const accepted = {
    issuer,
    audiences: [TOKEN_AUDIENCE],
    // From nowhere else, such as a query parameter, which would be logged; and on to the services.
    from_headers: ["Bearer ", "bearer "].map((value_prefix) => ({ name: "authorization", value_prefix })),
    forward: true,
    require_expiration: true,
    clock_skew_seconds: CLOCK_SKEW_SECONDS,
    jwt_cache_config: { jwt_cache_size: MAX_REMEMBERED_TOKENS },
    failed_status_in_metadata: FAILURE,
  };
  const providers: Record<string, Json> = {
    ...(publishesKeys(contract) && { identity: { ...accepted, remote_jwks: publishedKeys() } }),
    ...(developmentKey !== undefined && {
      development: { ...accepted, local_jwks: { inline_string: toKeySet(developmentKey) } },
    }),
  };
  const requirements = Object.keys(providers).map((provider_name) => ({ provider_name }));
  return named(FILTER, {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
    providers,
    requirement_map: {
      [REQUIRED]: requirements.length === 1 ? requirements[0] : { requires_any: { requirements } },
    },
  });
}

/** The `typed_per_filter_config` of a route to an RPC. What is open takes anything: the services see to what is sent. */
export function tokenPolicy({ isOpen }: Route): Json {
  return {
    [FILTER]: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
      ...(isOpen ? { disabled: true } : { requirement_name: REQUIRED }),
    },
  };
}

/**
 * Fits answers of the filter about a token that was sent: all of them, or those of one code of google::jwt_verify. What one
 * issuer's keys did not fit may have been good by another's, so the failure alone says nothing: the answer must be one.
 */
export function tokenFailure(code?: number): Json {
  const failure = {
    metadata_filter: {
      matcher: {
        filter: FILTER,
        path: [{ key: FAILURE }, { key: "code" }],
        value: code === undefined ? { present_match: true } : { double_match: { exact: code } },
      },
      match_if_key_not_found: false,
    },
  };
  const refused = [401, 403].map((status) => ({
    status_code_filter: { comparison: { op: "EQ", value: { default_value: status, runtime_key: "none" } } },
  }));
  return { and_filter: { filters: [{ or_filter: { filters: refused } }, failure] } };
}

function publishesKeys(contract: Contract): boolean {
  return contract.routes.some(({ pathTemplate }) => pathTemplate === KEYS_PATH);
}

/** Fetched by Envoy's main thread, for all workers, whether anybody calls or not. */
function publishedKeys(): Json {
  return {
    http_uri: { uri: `http://${KEYS_CLUSTER}${KEYS_PATH}`, cluster: KEYS_CLUSTER, timeout: KEYS_TIMEOUT },
    cache_duration: KEYS_REFRESH_INTERVAL,
    // The keys come through this Envoy itself: to wait for them before it listens would be to wait for ever.
    async_fetch: { fast_listener: true, failed_refetch_duration: KEYS_RETRY_INTERVAL },
  };
}

/** A public key in PEM as a JSON Web Key Set. */
function toKeySet(pem: string): string {
  const key = createPublicKey(pem).export({ format: "jwk" });
  return JSON.stringify({ keys: [{ ...key, kid: DEVELOPMENT_KEY_ID, alg: "EdDSA", use: "sig" }] });
}

/** Leads to the RPC that tells the keys, and nowhere else. */
export function keysListener(port: number, contract: Contract, transcoder: Json): Json[] {
  if (!publishesKeys(contract)) return [];
  return [
    {
      name: KEYS_CLUSTER,
      address: socketAddress({ host: LOOPBACK, port }),
      filter_chains: [
        {
          filters: [
            named("envoy.filters.network.http_connection_manager", {
              "@type":
                "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: KEYS_CLUSTER,
              route_config: {
                name: KEYS_CLUSTER,
                virtual_hosts: [
                  {
                    name: KEYS_CLUSTER,
                    domains: ["*"],
                    routes: [
                      {
                        match: { path: KEYS_PATH, headers: [{ name: ":method", string_match: { exact: "GET" } }] },
                        route: { cluster: "identity" satisfies ClusterName, timeout: KEYS_TIMEOUT },
                      },
                    ],
                  },
                ],
              },
              http_filters: [
                transcoder,
                named("envoy.filters.http.router", {
                  "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                }),
              ],
            }),
          ],
        },
      ],
    },
  ];
}

/** Where the token check asks: the listener above. */
export function keysCluster(port: number, contract: Contract): Json[] {
  if (!publishesKeys(contract)) return [];
  return [
    {
      name: KEYS_CLUSTER,
      type: "STATIC",
      connect_timeout: KEYS_TIMEOUT,
      load_assignment: {
        cluster_name: KEYS_CLUSTER,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress({ host: LOOPBACK, port }) } }] }],
      },
    },
  ];
}
