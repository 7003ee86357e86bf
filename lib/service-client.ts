import type { DescMethod } from "@bufbuild/protobuf";
import type { Client, ServiceConfig } from "@grpc/grpc-js";
import { contract } from "#lib/contract.ts";
import { type Answer, type ClientClass, call, openClient, type UnaryCall } from "#lib/grpc-client.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { Tls } from "#lib/tls.ts";

/**
 * Calls from one service to another. What travels along: how long the caller waits, the trace, and, when the call is made for
 * them, the user's token. What is repeated: UNAVAILABLE, where once more does no harm, while the budget lasts; grpc-js does it
 * by the configuration below.
 *
 *   sent -> answered
 *   sent -> UNAVAILABLE -> pause -> sent again      a read, or a command with a key; at most MAX_ATTEMPTS in all
 *   sent -> UNAVAILABLE -> answered with it         anything else, no budget left, or no time
 */

const MAX_ATTEMPTS = 3;
const FIRST_PAUSE = "0.05s";
const MAX_PAUSE = "0.5s";
/**
 * The budget of a process for another: each failed attempt takes one token, each success gives a tenth back, and below half of
 * them nothing is repeated. So in the long run at most one attempt in ten is a repeated one: who is down is not flooded.
 */
const BUDGET = { maxTokens: 20, tokenRatio: 0.1 };
const FIRST_RECONNECT_MS = 100;
const MAX_RECONNECT_MS = 2_000;
/** A machine that is gone says nothing: it is asked, and given up after the timeout. */
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;
/** What an answer takes to get back to whoever waits for ours. */
const DEADLINE_MARGIN_MS = 50;
const DEFAULT_TIMEOUT_MS = 5_000;

/** A client of another service at `host:port`, which repeats what may be repeated. */
export function openServiceClient<C extends Client>(ClientClass: ClientClass<C>, address: string, tls: Tls): C {
  const { serviceName } = ClientClass;
  const service = contract().getService(serviceName);
  if (service === undefined) throw new Error(`the contract has no ${serviceName}`);
  const config: Pick<ServiceConfig, "methodConfig" | "retryThrottling"> = {
    methodConfig: [
      {
        name: service.methods.filter(isRepeatable).map(({ name: method }) => ({ service: serviceName, method })),
        retryPolicy: {
          maxAttempts: MAX_ATTEMPTS,
          initialBackoff: FIRST_PAUSE,
          maxBackoff: MAX_PAUSE,
          backoffMultiplier: 2,
          retryableStatusCodes: ["UNAVAILABLE"],
        },
      },
    ],
    retryThrottling: BUDGET,
  };
  return openClient(ClientClass, address, tls, {
    "grpc.service_config": JSON.stringify(config),
    // Nobody who answers DNS queries decides what is repeated.
    "grpc.service_config_disable_resolution": 1,
    "grpc.initial_reconnect_backoff_ms": FIRST_RECONNECT_MS,
    "grpc.max_reconnect_backoff_ms": MAX_RECONNECT_MS,
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  });
}

/** Reads change nothing; a command whose request carries its key has its effect once, however often it is sent. */
function isRepeatable({ name, input }: DescMethod): boolean {
  return /^(Get|List)[A-Z]/.test(name) || input.fields.some((field) => field.name === "idempotency_key");
}

export interface OutgoingCall {
  /**
   * `caller`: with the token of whoever is behind the incoming call, who must be allowed to; `self`: as this service.
   */
  readonly as: "caller" | "self";
  readonly headers?: Readonly<Record<string, string>>;
  /** The most that this call may take, when the incoming one has longer. */
  readonly timeoutMs?: number;
}

/**
 * One call while another one is being answered: within what is left of that one's time, and in its trace. Rejects with a
 * CallError: DEADLINE_EXCEEDED at once when nothing is left.
 */
export function callDuring<Request, Response>(
  incoming: Pick<Call, "deadlineMs" | "traceparent" | "headers">,
  client: Client,
  method: UnaryCall<Request, Response>,
  request: Request,
  { as, headers = {}, timeoutMs = DEFAULT_TIMEOUT_MS }: OutgoingCall,
): Promise<Answer<Response>> {
  const { traceparent } = incoming;
  const { authorization } = incoming.headers;
  const leftMs = (incoming.deadlineMs ?? Number.POSITIVE_INFINITY) - performance.now() - DEADLINE_MARGIN_MS;
  const sent = {
    ...headers,
    ...(traceparent !== undefined && { traceparent }),
    ...(as === "caller" && authorization !== undefined && { authorization }),
  };
  return call(client, method, request, sent, Math.min(timeoutMs, leftMs));
}
