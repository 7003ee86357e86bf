import type { Address, GatewayConfig } from "#gateway/config.ts";
import type { ClusterName, Contract, Route } from "#gateway/contract.ts";
import { toLua } from "#gateway/lua.ts";

/** Lua sources by file name. */
export interface LuaSources {
  readonly values: string;
  readonly checkBody: string;
  readonly checkQuery: string;
  readonly filter: string;
}

const LOOPBACK = "127.0.0.1";
const KIB = 1024;
const MIB = 1024 * KIB;
/** api.md: 64 KB, batches 8 MB. */
const MAX_BODY_BYTES = 64 * KIB;
const MAX_BATCH_BODY_BYTES = 8 * MIB;
const MAX_RESPONSE_BYTES = 32 * MIB;

type Json = Record<string, unknown>;

/** The whole configuration of Envoy, with the contract inside: one file, nothing beside it. */
export function renderBootstrap(
  config: GatewayConfig,
  contract: Contract,
  descriptorSet: Uint8Array,
  lua: LuaSources,
): Json {
  return {
    admin: { address: socket(LOOPBACK, config.adminPort) },
    static_resources: {
      listeners: [
        {
          name: "rest",
          address: socket(LOOPBACK, config.port),
          per_connection_buffer_limit_bytes: MAX_RESPONSE_BYTES,
          filter_chains: [{ filters: [httpConnectionManager(contract, descriptorSet, lua)] }],
        },
      ],
      clusters: [cluster("ledger", config.ledger), cluster("reporting", config.reporting)],
    },
  };
}

function httpConnectionManager(contract: Contract, descriptorSet: Uint8Array, lua: LuaSources): Json {
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "rest",
      server_name: "ledgermesh",
      use_remote_address: true,
      normalize_path: true,
      path_with_escaped_slashes_action: "REJECT_REQUEST",
      route_config: {
        name: "rest",
        virtual_hosts: [{ name: "rest", domains: ["*"], routes: [...contract.routes.map(toEnvoyRoute), catchAll()] }],
      },
      http_filters: [
        buffer(),
        {
          name: "envoy.filters.http.lua",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            default_source_code: { inline_string: luaProgram(contract, lua) },
          },
        },
        transcoder(contract, descriptorSet),
        {
          name: "envoy.filters.http.router",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      ],
    },
  };
}

function buffer(): Json {
  return {
    name: "envoy.filters.http.buffer",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
      max_request_bytes: MAX_BODY_BYTES,
    },
  };
}

function transcoder(contract: Contract, descriptorSet: Uint8Array): Json {
  return {
    name: "envoy.filters.http.grpc_json_transcoder",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
      proto_descriptor_bin: Buffer.from(descriptorSet).toString("base64"),
      services: contract.serviceNames,
      auto_mapping: false,
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
    },
  };
}

function luaProgram(contract: Contract, lua: LuaSources): string {
  const { bodies, queries, messages, enums } = contract;
  return [
    `local contract = ${toLua({ bodies, queries, messages, enums })}`,
    `local values = (function()\n${lua.values}\nend)()`,
    `local check_body = (function()\n${lua.checkBody}\nend)()(values, contract)`,
    `local check_query = (function()\n${lua.checkQuery}\nend)()(values, contract)`,
    `envoy_on_request = (function()\n${lua.filter}\nend)()(check_body, check_query)`,
  ].join("\n");
}

function toEnvoyRoute(route: Route): Json {
  return {
    match: {
      ...pathMatch(route.pathTemplate),
      headers: [{ name: ":method", string_match: { exact: route.httpMethod } }],
    },
    route: { cluster: route.cluster, timeout: route.isBatch ? "30s" : "6s" },
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
  const regex = template
    .split(/(\{\w+\})/)
    .map((part) => (part.startsWith("{") ? "[^/:]+" : part.replace(/[.]/g, "\\.")))
    .join("");
  return { safe_regex: { regex } };
}

function catchAll(): Json {
  return {
    match: { prefix: "/" },
    direct_response: { status: 404 },
    typed_per_filter_config: {
      "envoy.filters.http.grpc_json_transcoder": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        disabled: true,
        config: {},
      },
    },
  };
}

function cluster(name: ClusterName, address: Address): Json {
  return {
    name,
    type: /^[0-9.]+$/.test(address.host) ? "STATIC" : "STRICT_DNS",
    connect_timeout: "1s",
    per_connection_buffer_limit_bytes: MAX_RESPONSE_BYTES,
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(address.host, address.port) } }] }],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}

function socket(address: string, port: number): Json {
  return { socket_address: { address, port_value: port } };
}
