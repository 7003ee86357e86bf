import type { GatewayConfig } from "#gateway/config.ts";
import type { ClusterName, Contract, Route } from "#gateway/contract.ts";
import type { Json } from "#gateway/envoy.ts";
import { countedAs } from "#gateway/rate-limits.ts";
import { type ReferenceFile, referenceRoute } from "#gateway/reference-page.ts";
import { corsPolicy } from "#gateway/response-headers.ts";
import { tokenPolicy } from "#gateway/token-check.ts";

/** Which paths there are: the public RPCs of the contract, their reference, and nothing else. */

const KIB = 1024;
/** api.md: 64 KB, batches 8 MB. */
export const MAX_BODY_BYTES = 64 * KIB;
export const MAX_BATCH_BODY_BYTES = 8 * 1024 * KIB;
/** The services answer within 5 s, if only with PROCESSING. */
const ROUTE_TIMEOUT_SECONDS = 6;
const BATCH_ROUTE_TIMEOUT_SECONDS = 30;
/** Only of calls that no service has seen. */
const MAX_RETRIES = 2;

/** The one virtual host: which RPC a request is for, what it counts as, and whose pages may ask. */
export function virtualHost(
  contract: Contract,
  { allowedOrigins, tokens }: GatewayConfig,
  reference: readonly ReferenceFile[],
): Json {
  return {
    name: "rest",
    domains: ["*"],
    routes: routes(contract, reference, tokens !== undefined),
    typed_per_filter_config: corsPolicy(allowedOrigins),
  };
}

/** Each RPC and file, then its path with any other method, then everything else. */
function routes(contract: Contract, reference: readonly ReferenceFile[], areTokensChecked: boolean): Json[] {
  const ordered = contract.routes.toSorted(literalFirst);
  const files = reference.map(({ path }) => ({ pathTemplate: path, httpMethod: "GET" }));
  const methodsByPath = Map.groupBy([...ordered, ...files], ({ pathTemplate }) => pathTemplate);
  return [
    preflight(),
    ...ordered.map((route) => rpcRoute(route, areTokensChecked)),
    ...reference.map((file) => referenceRoute(file, ownAnswer(200))),
    ...[...methodsByPath].map(([pathTemplate, ofPath]) => ({
      match: pathMatch(pathTemplate),
      ...ownAnswer(405),
      response_headers_to_add: [
        { header: { key: "allow", value: ofPath.map((route) => route.httpMethod).join(", ") } },
      ],
    })),
    { match: { prefix: "/" }, ...ownAnswer(404) },
    // Has no path, and no end: it would wait for its body.
    { match: { connect_matcher: {} }, ...ownAnswer(405) },
  ];
}

/** The filter for CORS answers every preflight, but only on a route that leads somewhere. */
function preflight(): Json {
  const isGiven = { safe_regex: { regex: ".+" } };
  return {
    name: "preflight",
    match: {
      prefix: "/",
      headers: [
        { name: ":method", string_match: { exact: "OPTIONS" } },
        { name: "origin", string_match: isGiven },
        { name: "access-control-request-method", string_match: isGiven },
      ],
    },
    route: { cluster: "ledger" satisfies ClusterName },
  };
}

/** Envoy takes the first route that fits, the transcoder the most literal one: `users/me` goes before `users/{user_id}`. */
function literalFirst(a: Route, b: Route): number {
  const [before, after] = [a, b].map(({ pathTemplate }) => pathTemplate.replaceAll(/\{\w+\}/g, "~")) as [
    string,
    string,
  ];
  return before < after ? -1 : Number(before > after);
}

function rpcRoute(route: Route, isTokenChecked: boolean): Json {
  const timeoutSeconds = route.isBatch ? BATCH_ROUTE_TIMEOUT_SECONDS : ROUTE_TIMEOUT_SECONDS;
  return {
    name: route.rpc,
    match: {
      ...pathMatch(route.pathTemplate),
      headers: [{ name: ":method", string_match: { exact: route.httpMethod } }],
    },
    route: {
      cluster: route.cluster,
      timeout: `${timeoutSeconds}s`,
      // A call that reached the service is never repeated here: only its caller knows the idempotency key's purpose.
      retry_policy: {
        retry_on: "connect-failure,refused-stream,reset-before-request",
        num_retries: MAX_RETRIES,
        retry_back_off: { base_interval: "0.025s", max_interval: "0.25s" },
      },
    },
    // So the service knows how long anybody waits, and tells those that it calls.
    request_headers_to_add: [
      { header: { key: "grpc-timeout", value: `${timeoutSeconds}S` }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ],
    metadata: {
      filter_metadata: {
        "envoy.filters.http.lua": { rpc: route.rpc, has_body: route.hasBody },
        ...countedAs(route.callClass),
      },
    },
    typed_per_filter_config: {
      ...(isTokenChecked && tokenPolicy(route)),
      ...(route.isBatch && {
        "envoy.filters.http.buffer": {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
          buffer: { max_request_bytes: MAX_BATCH_BODY_BYTES },
        },
      }),
    },
  };
}

function pathMatch(template: string): Json {
  if (!template.includes("{")) return { path: template };
  const regex = template.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/:]+");
  return { safe_regex: { regex } };
}

/** Envoy answers by itself, with the body of local-replies.ts, and reads no body for it. */
function ownAnswer(status: number): Json {
  return {
    direct_response: { status },
    typed_per_filter_config: {
      "envoy.filters.http.buffer": disabledFilter(),
      "envoy.filters.http.grpc_json_transcoder": disabledFilter(),
    },
  };
}

function disabledFilter(): Json {
  return { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", disabled: true, config: {} };
}
