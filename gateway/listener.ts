import type { Address, GatewayConfig } from "#gateway/config.ts";
import type { Contract } from "#gateway/contract.ts";
import { type Json, named, socketAddress } from "#gateway/envoy.ts";
import { localReplyConfig } from "#gateway/local-replies.ts";
import { toLua } from "#gateway/lua.ts";
import { rateLimitFilter } from "#gateway/rate-limits.ts";
import { MAX_REFERENCE_FILE_BYTES, type ReferenceFile } from "#gateway/reference-page.ts";
import { answerHeaders, corsFilter } from "#gateway/response-headers.ts";
import { MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES, virtualHost } from "#gateway/routes.ts";
import { secret } from "#gateway/secrets.ts";
import { tokenFilter } from "#gateway/token-check.ts";

/** A door for strangers: what a connection, a request and its headers may be, and the filters that each request passes. */

/** The sources of the Lua filter. */
export interface LuaSources {
  readonly values: string;
  readonly checkBody: string;
  readonly checkQuery: string;
  readonly filter: string;
}

const KIB = 1024;
const MIB = 1024 * KIB;
/** As lib/grpc-server.ts allows: the answer to a batch is larger than the batch. */
export const MAX_RESPONSE_BYTES = 32 * MIB;
const MAX_HEADERS_KIB = 32;
const MAX_HEADERS = 100;

/** How long a handshake or a request may take to arrive, and a connection may be silent while one is under way. */
const HANDSHAKE_TIMEOUT = "5s";
const HEADERS_TIMEOUT = "5s";
const REQUEST_TIMEOUT = "30s";
/** Longer than the longest route: it is for peers that are gone. */
const STREAM_IDLE_TIMEOUT = "40s";
const CONNECTION_IDLE_TIMEOUT = "300s";
const MAX_STREAMS_PER_CONNECTION = 256;

/** Everything but errors and slow answers goes unlogged: the services have their own metrics. */
const LOGGED_FROM_STATUS = 500;
const LOGGED_FROM_DURATION_MS = 2000;

/** Only the gateway and the proxies before it may say these of a request: they are gone before anything reads them. */
const FORGED_HEADER_PREFIXES = ["x-envoy-", "x-ledgermesh-", "x-caller"];
const FORGED_HEADERS = ["forwarded", "x-real-ip", "x-forwarded-host", "x-forwarded-port"];
/** gRPC's own (a caller could shorten deadlines), and of a trace no more than its id. */
const RESERVED_HEADER_PREFIXES = ["grpc-"];
const RESERVED_HEADERS = ["tracestate", "baggage"];

/** Listens for TLS, or, without it, for plain HTTP. */
export function listener(
  name: string,
  address: Address,
  isTls: boolean,
  config: GatewayConfig,
  contract: Contract,
  lua: LuaSources,
  reference: readonly ReferenceFile[],
  secretsFolder: string,
): Json {
  return {
    name,
    address: socketAddress(address),
    per_connection_buffer_limit_bytes: MAX_RESPONSE_BYTES,
    // Few connections carry many calls: spread them evenly over the workers.
    connection_balance_config: { exact_balance: {} },
    filter_chains: [
      {
        filters: [httpConnectionManager(name, isTls, config, contract, lua, reference)],
        transport_socket_connect_timeout: HANDSHAKE_TIMEOUT,
        ...(isTls && { transport_socket: tlsSocket(secretsFolder) }),
      },
    ],
  };
}

/** TLS 1.3 and nothing older; clients prove who they are by tokens, not by certificates. */
function tlsSocket(secretsFolder: string): Json {
  return named("envoy.transport_sockets.tls", {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    common_tls_context: {
      tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
      tls_certificate_sds_secret_configs: [secret(secretsFolder, "rest")],
      alpn_protocols: ["h2", "http/1.1"],
    },
  });
}

function httpConnectionManager(
  name: string,
  isTls: boolean,
  config: GatewayConfig,
  contract: Contract,
  lua: LuaSources,
  reference: readonly ReferenceFile[],
): Json {
  return named("envoy.filters.network.http_connection_manager", {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: name,
    server_name: "ledgermesh",
    // The peer is a stranger, loopback too: x-envoy-* from outside are removed, x-forwarded-for is extended. (Naming an
    // internal_address_config, even an empty one, would make loopback trusted.)
    use_remote_address: true,
    xff_num_trusted_hops: config.trustedHops,
    early_header_mutation_extensions: [forgedHeaders(config.trustedHops)],
    always_set_request_id_in_response: true,
    // `/a/../b` and `%61` mean what RFC 3986 says. `%2F`, `//` and a slash at the end name nothing.
    normalize_path: true,
    merge_slashes: false,
    path_with_escaped_slashes_action: "REJECT_REQUEST",
    max_request_headers_kb: MAX_HEADERS_KIB,
    common_http_protocol_options: {
      max_headers_count: MAX_HEADERS,
      idle_timeout: CONNECTION_IDLE_TIMEOUT,
    },
    http2_protocol_options: {
      max_concurrent_streams: MAX_STREAMS_PER_CONNECTION,
      // What is malformed ends its own call, not the others of its connection.
      override_stream_error_on_invalid_http_message: true,
    },
    request_headers_timeout: HEADERS_TIMEOUT,
    request_timeout: REQUEST_TIMEOUT,
    stream_idle_timeout: STREAM_IDLE_TIMEOUT,
    local_reply_config: localReplyConfig(answerHeaders(isTls)),
    access_log: [errorLog()],
    route_config: {
      name: "rest",
      max_direct_response_body_size_bytes: MAX_REFERENCE_FILE_BYTES,
      virtual_hosts: [virtualHost(contract, config, reference)],
    },
    http_filters: [
      headerMutation(isTls),
      corsFilter(),
      rateLimitFilter(config.rateLimits),
      ...(config.tokens === undefined ? [] : [tokenFilter(config.tokens, contract)]),
      bodyLimit(MAX_BODY_BYTES),
      named("envoy.filters.http.lua", {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code: { inline_string: luaProgram(contract, lua) },
      }),
      transcoder(contract),
      named("envoy.filters.http.router", {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers: true,
      }),
    ],
  });
}

const removePrefix = (prefix: string) => ({ remove_on_match: { key_matcher: { prefix } } });

/** Runs before Envoy writes headers of the same names itself. */
function forgedHeaders(trustedHops: number): Json {
  const removed = [...FORGED_HEADERS, ...(trustedHops === 0 ? ["x-forwarded-for", "x-forwarded-proto"] : [])];
  return named("envoy.http.early_header_mutation.header_mutation", {
    "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    mutations: [...FORGED_HEADER_PREFIXES.map(removePrefix), ...removed.map((remove) => ({ remove }))],
  });
}

function headerMutation(isTls: boolean): Json {
  return named("envoy.filters.http.header_mutation", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    mutations: {
      request_mutations: [
        ...RESERVED_HEADER_PREFIXES.map(removePrefix),
        ...RESERVED_HEADERS.map((remove) => ({ remove })),
      ],
      response_mutations: [removePrefix("grpc-"), ...answerHeaders(isTls).map((append) => ({ append }))],
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

/** Between JSON and gRPC, by the contract. */
export function transcoder(contract: Contract): Json {
  return named("envoy.filters.http.grpc_json_transcoder", {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    proto_descriptor_bin: Buffer.from(contract.publicDescriptorSet).toString("base64"),
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
