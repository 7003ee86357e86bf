import { type Json, named } from "#gateway/envoy.ts";

/** What the gateway does when it runs out: it gives up on the slow first, then refuses calls, and never grows beyond its bound. */

const MIB = 1024 * 1024;
const MAX_HEAP_BYTES = 1024 * MIB;
/** Beyond it a connection is closed as soon as it is made. */
const MAX_CONNECTIONS = 4096;

/** Shares of the heap, or of the connections, at which each step begins. */
const RETURN_MEMORY = 0.85;
const HURRY_FROM = 0.8;
const HURRY_FULLY = 0.95;
const REFUSE_CALLS = 0.95;
const REFUSE_CONNECTIONS = 0.98;

const HEAP = "envoy.resource_monitors.fixed_heap";
const CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections";

export function overloadManager(): Json {
  return {
    refresh_interval: "0.25s",
    resource_monitors: [
      named(HEAP, {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        max_heap_size_bytes: MAX_HEAP_BYTES,
      }),
      named(CONNECTIONS, {
        "@type":
          "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections: MAX_CONNECTIONS,
      }),
    ],
    actions: [
      action("shrink_heap", { threshold: { value: RETURN_MEMORY } }),
      {
        name: "envoy.overload_actions.reduce_timeouts",
        triggers: [HEAP, CONNECTIONS].map((name) => ({
          name,
          scaled: { scaling_threshold: HURRY_FROM, saturation_threshold: HURRY_FULLY },
        })),
        typed_config: {
          "@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
          timer_scale_factors: [
            { timer: "HTTP_DOWNSTREAM_CONNECTION_IDLE", min_timeout: "2s" },
            { timer: "TRANSPORT_SOCKET_CONNECT", min_timeout: "1s" },
          ],
        },
      },
      action("stop_accepting_requests", { threshold: { value: REFUSE_CALLS } }),
      action("disable_http_keepalive", { threshold: { value: REFUSE_CALLS } }),
      action("stop_accepting_connections", { threshold: { value: REFUSE_CONNECTIONS } }),
    ],
  };
}

function action(name: string, trigger: Json): Json {
  return { name: `envoy.overload_actions.${name}`, triggers: [{ name: HEAP, ...trigger }] };
}
