import type { Address, GatewayConfig } from "#gateway/config.ts";
import type { ClusterName, Contract, Route } from "#gateway/contract.ts";
import { localReplyConfig } from "#gateway/local-replies.ts";
import { toLua } from "#gateway/lua.ts";

/** The sources of the Lua filter. */
export interface LuaSources {
  readonly values: string;
  readonly checkBody: string;
  readonly checkQuery: string;
  readonly filter: string;
}

type Json = Record<string, unknown>;

const LOOPBACK = "127.0.0.1";
const KIB = 1024;
const MIB = 1024 * KIB;

/** api.md: 64 KB, batches 8 MB. */
export const MAX_BODY_BYTES = 64 * KIB;
export const MAX_BATCH_BODY_BYTES = 8 * MIB;
/** As lib/grpc-server.ts allows: the answer to a batch is larger than the batch. */
const MAX_RESPONSE_BYTES = 32 * MIB;
const MAX_HEADERS_KIB = 32;
const MAX_HEADERS = 100;

const CONNECT_TIMEOUT = "1s";
/** The services answer within 5 s, if only with PROCESSING. */
const ROUTE_TIMEOUT = "6s";
const BATCH_ROUTE_TIMEOUT = "30s";
/** How long a request may take to arrive, and a connection may be silent while one is under way. */
const HEADERS_TIMEOUT = "5s";
const REQUEST_TIMEOUT = "30s";
/** Longer than the longest route: it is for peers that are gone. */
const STREAM_IDLE_TIMEOUT = "40s";
const CONNECTION_IDLE_TIMEOUT = "300s";

const MAX_DOWNSTREAM_CONNECTIONS = 4096;
const MAX_STREAMS_PER_DOWNSTREAM_CONNECTION = 256;
/** Per service: more is refused at once (OVERLOADED) instead of waiting in a queue that nobody sees. */
const MAX_CALLS_UNDER_WAY = 4096;
const MAX_PENDING_CALLS = 2048;
const MAX_UPSTREAM_CONNECTIONS = 64;
/** Below the bound of lib/grpc-server.ts. */
const MAX_CALLS_PER_UPSTREAM_CONNECTION = 1024;
/** Only of calls that no service has seen. */
const MAX_RETRIES = 2;
const MAX_RETRIES_UNDER_WAY = 256;

/** Everything but errors and slow answers goes unlogged: the services have their own metrics. */
const LOGGED_FROM_STATUS = 500;
const LOGGED_FROM_DURATION_MS = 2000;

/** Headers that only the gateway may set, and gRPC's own: a caller could shorten deadlines or forge who they are. */
const RESERVED_HEADER_PREFIXES = ["x-ledgermesh-", "x-caller", "grpc-"];

/** The whole configuration of Envoy, the contract included: one file that needs nothing beside it. */
export function renderBootstrap(
  config: GatewayConfig,
  contract: Contract,
  descriptorSet: Uint8Array,
  lua: LuaSources,
): Json {
  return {
    node: { id: "gateway", cluster: "ledgermesh" },
    admin: { address: socketAddress({ host: LOOPBACK, port: config.adminPort }) },
    static_resources: {
      listeners: [
        {
          name: "rest",
          address: socketAddress({ host: LOOPBACK, port: config.port }),
          per_connection_buffer_limit_bytes: MAX_RESPONSE_BYTES,
          // Few connections carry many calls: spread them evenly over the workers.
          connection_balance_config: { exact_balance: {} },
          filter_chains: [{ filters: [httpConnectionManager(contract, descriptorSet, lua)] }],
        },
      ],
      clusters: [
        cluster("ledger", config.ledger),
        cluster("reporting", config.reporting),
        cluster("identity", config.identity),
      ],
    },
    overload_manager: {
      resource_monitors: [
        named("envoy.resource_monitors.global_downstream_max_connections", {
          "@type":
            "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
          max_active_downstream_connections: MAX_DOWNSTREAM_CONNECTIONS,
        }),
      ],
    },
  };
}

function httpConnectionManager(contract: Contract, descriptorSet: Uint8Array, lua: LuaSources): Json {
  return named("envoy.filters.network.http_connection_manager", {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "rest",
    server_name: "ledgermesh",
    // The peer is a stranger, loopback too: x-envoy-* from outside are removed, x-forwarded-for is extended. (Naming an
    // internal_address_config, even an empty one, would make loopback trusted.)
    use_remote_address: true,
    always_set_request_id_in_response: true,
    // `/a/../b` and `%61` mean what RFC 3986 says. `%2F`, `//` and a slash at the end name nothing.
    normalize_path: true,
    merge_slashes: false,
    path_with_escaped_slashes_action: "REJECT_REQUEST",
    max_request_headers_kb: MAX_HEADERS_KIB,
    common_http_protocol_options: {
      max_headers_count: MAX_HEADERS,
      idle_timeout: CONNECTION_IDLE_TIMEOUT,
      // `idempotency_key` as a header would be passed over silently.
      headers_with_underscores_action: "REJECT_REQUEST",
    },
    http2_protocol_options: { max_concurrent_streams: MAX_STREAMS_PER_DOWNSTREAM_CONNECTION },
    request_headers_timeout: HEADERS_TIMEOUT,
    request_timeout: REQUEST_TIMEOUT,
    stream_idle_timeout: STREAM_IDLE_TIMEOUT,
    local_reply_config: localReplyConfig(),
    access_log: [errorLog()],
    route_config: {
      name: "rest",
      virtual_hosts: [{ name: "rest", domains: ["*"], routes: routes(contract) }],
    },
    http_filters: [
      headerMutation(),
      bodyLimit(MAX_BODY_BYTES),
      named("envoy.filters.http.lua", {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code: { inline_string: luaProgram(contract, lua) },
      }),
      transcoder(contract, descriptorSet),
      named("envoy.filters.http.router", {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers: true,
      }),
    ],
  });
}

function headerMutation(): Json {
  const removeByPrefix = (prefix: string) => ({ remove_on_match: { key_matcher: { prefix } } });
  return named("envoy.filters.http.header_mutation", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    mutations: {
      request_mutations: RESERVED_HEADER_PREFIXES.map(removeByPrefix),
      response_mutations: [removeByPrefix("grpc-")],
    },
  });
}

function bodyLimit(maxBytes: number): Json {
  return named("envoy.filters.http.buffer", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
    max_request_bytes: maxBytes,
  });
}

/** The sources, each as a function of its own, with the contract as data before them. */
function luaProgram(contract: Contract, lua: LuaSources): string {
  const { bodies, queries, messages, enums } = contract;
  const chunk = (source: string) => `(function()\n${source}\nend)()`;
  return [
    `local contract = ${toLua({ bodies, queries, messages, enums })}`,
    `local values = ${chunk(lua.values)}`,
    `local check_body = ${chunk(lua.checkBody)}(values, contract)`,
    `local check_query = ${chunk(lua.checkQuery)}(values, contract)`,
    `local define_filter = ${chunk(lua.filter)}`,
    "define_filter(values, check_body, check_query)",
  ].join("\n");
}

function transcoder(contract: Contract, descriptorSet: Uint8Array): Json {
  return named("envoy.filters.http.grpc_json_transcoder", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    proto_descriptor_bin: Buffer.from(descriptorSet).toString("base64"),
    services: contract.serviceNames,
    auto_mapping: false,
    // The route is that of the REST path; there are none for gRPC's paths.
    match_incoming_request_route: true,
    convert_grpc_status: true,
    query_param_unescape_plus: true,
    print_options: { always_print_primitive_fields: true, preserve_proto_field_names: true },
    request_validation_options: {
      reject_unknown_method: true,
      reject_unknown_query_parameters: true,
      reject_binding_body_field_collisions: true,
    },
    max_request_body_size: MAX_BATCH_BODY_BYTES,
    max_response_body_size: MAX_RESPONSE_BYTES,
  });
}

/** Each RPC, then its path with any other method, then everything else. */
function routes(contract: Contract): Json[] {
  const methodsByPath = Map.groupBy(contract.routes, ({ pathTemplate }) => pathTemplate);
  return [
    ...contract.routes.map(rpcRoute),
    ...[...methodsByPath].map(([pathTemplate, ofPath]) => ({
      match: pathMatch(pathTemplate),
      ...ownAnswer(405),
      response_headers_to_add: [
        { header: { key: "allow", value: ofPath.map((route) => route.httpMethod).join(", ") } },
      ],
    })),
    { match: { prefix: "/" }, ...ownAnswer(404) },
  ];
}

function rpcRoute(route: Route): Json {
  return {
    name: route.rpc,
    match: {
      ...pathMatch(route.pathTemplate),
      headers: [{ name: ":method", string_match: { exact: route.httpMethod } }],
    },
    route: {
      cluster: route.cluster,
      timeout: route.isBatch ? BATCH_ROUTE_TIMEOUT : ROUTE_TIMEOUT,
      // A call that reached the service is never repeated here: only its caller knows the idempotency key's purpose.
      retry_policy: {
        retry_on: "connect-failure,refused-stream,reset-before-request",
        num_retries: MAX_RETRIES,
        retry_back_off: { base_interval: "0.025s", max_interval: "0.25s" },
      },
    },
    metadata: { filter_metadata: { "envoy.filters.http.lua": { rpc: route.rpc, has_body: route.hasBody } } },
    ...(route.isBatch && {
      typed_per_filter_config: {
        "envoy.filters.http.buffer": {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
          buffer: { max_request_bytes: MAX_BATCH_BODY_BYTES },
        },
      },
    }),
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

function cluster(name: ClusterName, address: Address): Json {
  return {
    name,
    type: /^[0-9.]+$/.test(address.host) ? "STATIC" : "STRICT_DNS",
    connect_timeout: CONNECT_TIMEOUT,
    per_connection_buffer_limit_bytes: MAX_RESPONSE_BYTES,
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address) } }] }],
    },
    circuit_breakers: {
      thresholds: [
        {
          max_connections: MAX_UPSTREAM_CONNECTIONS,
          max_pending_requests: MAX_PENDING_CALLS,
          max_requests: MAX_CALLS_UNDER_WAY,
          max_retries: MAX_RETRIES_UNDER_WAY,
        },
      ],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: {
          http2_protocol_options: {
            max_concurrent_streams: MAX_CALLS_PER_UPSTREAM_CONNECTION,
            connection_keepalive: { interval: "30s", timeout: "5s" },
          },
        },
      },
    },
  };
}

/** JSON lines on standard output, without bodies, queries or headers. */
function errorLog(): Json {
  const atLeast = (value: number) => ({
    comparison: { op: "GE", value: { default_value: value, runtime_key: "none" } },
  });
  return {
    name: "envoy.access_loggers.stdout",
    filter: {
      or_filter: {
        filters: [
          { status_code_filter: atLeast(LOGGED_FROM_STATUS) },
          { duration_filter: atLeast(LOGGED_FROM_DURATION_MS) },
        ],
      },
    },
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
      log_format: {
        json_format: {
          service: "gateway",
          time: "%START_TIME%",
          route: "%ROUTE_NAME%",
          method: "%REQ(:METHOD)%",
          status: "%RESPONSE_CODE%",
          flags: "%RESPONSE_FLAGS%",
          details: "%RESPONSE_CODE_DETAILS%",
          duration_ms: "%DURATION%",
          request_id: "%REQ(X-REQUEST-ID)%",
        },
      },
    },
  };
}

function socketAddress({ host, port }: Address): Json {
  return { socket_address: { address: host, port_value: port } };
}

function named(name: string, typedConfig: Json): Json {
  return { name, typed_config: typedConfig };
}
