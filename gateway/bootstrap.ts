import type { Address, GatewayConfig } from "#gateway/config.ts";
import type { ClusterName, Contract } from "#gateway/contract.ts";
import { type Json, named, socketAddress } from "#gateway/envoy.ts";
import { type LuaSources, listener, MAX_RESPONSE_BYTES, transcoder } from "#gateway/listener.ts";
import { overloadManager } from "#gateway/overload.ts";
import type { ReferenceFile } from "#gateway/reference-page.ts";
import { secret } from "#gateway/secrets.ts";
import { keysCluster, keysListener } from "#gateway/token-check.ts";
import { peerUri } from "#lib/peer-name.ts";

const LOOPBACK = "127.0.0.1";
const CONNECT_TIMEOUT = "1s";
/** Per service: more is refused at once (OVERLOADED) instead of waiting in a queue that nobody sees. */
const MAX_CALLS_UNDER_WAY = 4096;
const MAX_PENDING_CALLS = 2048;
const MAX_UPSTREAM_CONNECTIONS = 64;
/** Below the bound of lib/grpc-server.ts. */
const MAX_CALLS_PER_UPSTREAM_CONNECTION = 1024;
const MAX_RETRIES_UNDER_WAY = 256;

/** The whole configuration of Envoy, the contract included: one file that needs nothing beside it but certificates and the script of /docs. */
export function renderBootstrap(
  config: GatewayConfig,
  contract: Contract,
  lua: LuaSources,
  reference: readonly ReferenceFile[],
  secretsFolder: string,
): Json {
  const { port, tls, keysPort } = config;
  const open = (name: string, address: Address, listenerTls: typeof tls) =>
    listener(name, address, listenerTls !== undefined, config, contract, lua, reference, secretsFolder);
  return {
    node: { id: "gateway", cluster: "ledgermesh" },
    admin: { address: socketAddress({ host: LOOPBACK, port: config.adminPort }) },
    static_resources: {
      listeners: [
        ...(port === undefined ? [] : [open("rest", { host: LOOPBACK, port }, undefined)]),
        ...(tls === undefined ? [] : [open("rest_tls", tls.address, tls)]),
        ...(config.tokens === undefined ? [] : keysListener(keysPort, contract, transcoder(contract))),
      ],
      clusters: [
        cluster("ledger", config.ledger, secretsFolder),
        cluster("reporting", config.reporting, secretsFolder),
        cluster("identity", config.identity, secretsFolder),
        ...(config.tokens === undefined ? [] : keysCluster(keysPort, contract)),
      ],
    },
    overload_manager: overloadManager(),
  };
}

function cluster(name: ClusterName, address: Address, secretsFolder: string): Json {
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
    transport_socket: upstreamTls(name, secretsFolder),
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

/** The gateway shows its certificate, and talks to nobody but the process of this name. */
function upstreamTls(name: ClusterName, secretsFolder: string): Json {
  return named("envoy.transport_sockets.tls", {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    sni: name,
    // The services resume no session.
    max_session_keys: 0,
    common_tls_context: {
      tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
      alpn_protocols: ["h2"],
      tls_certificate_sds_secret_configs: [secret(secretsFolder, "services")],
      combined_validation_context: {
        default_validation_context: {
          match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: peerUri(name) } }],
        },
        validation_context_sds_secret_config: secret(secretsFolder, "services_ca"),
      },
    },
  });
}
