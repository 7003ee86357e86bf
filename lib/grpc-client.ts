import type { PeerCertificate } from "node:tls";
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientOptions,
  credentials,
  Metadata,
  type requestCallback,
  type ServiceError,
} from "@grpc/grpc-js";
import { ERROR_DOMAIN } from "#lib/grpc-status.ts";
import { nameOfPeer } from "#lib/peer-name.ts";
import type { Tls } from "#lib/tls.ts";
import { BadRequest, ErrorInfo, RetryInfo } from "#proto/google/rpc/error_details.ts";
import { Status } from "#proto/google/rpc/status.ts";

/** Calling a service: promises instead of callbacks, headers as plain objects, refusals with their reason. */

const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
const DEFAULT_DEADLINE_MS = 30_000;

export interface ClientClass<C extends Client> {
  new (address: string, credentials: ChannelCredentials, options: object): C;
  /** `ledgermesh.ledger.v1.LedgerService` */
  readonly serviceName: string;
}

/** A client of one service at `host:port`, which must be the process that the contract's package names. */
export function openClient<C extends Client>(
  ClientClass: ClientClass<C>,
  address: string,
  tls: Tls,
  options: Partial<ClientOptions> = {},
): C {
  const [, process = ""] = ClientClass.serviceName.split(".");
  const checkServerIdentity = serverCheckOf(process);
  return new ClientClass(address, credentials.createFromSecureContext(tls.context, { checkServerIdentity }), {
    // What the check is given instead of an address, and what the server may choose a certificate by.
    "grpc.ssl_target_name_override": process,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    ...options,
  });
}

type ServerCheck = (name: string, certificate: PeerCertificate) => Error | undefined;

/** One per process: clients whose checks are the same function share a connection. */
const serverChecks = new Map<string, ServerCheck>();

/** The CA was looked at before: this asks whether the certificate stands for the process that is meant. */
function serverCheckOf(process: string): ServerCheck {
  const known = serverChecks.get(process);
  if (known !== undefined) return known;
  const check: ServerCheck = (_, certificate) => {
    const name = nameOfPeer(certificate.subjectaltname);
    return name === process ? undefined : new Error(`this is ${name ?? "no process of ours"}, not ${process}`);
  };
  serverChecks.set(process, check);
  return check;
}

export interface Answer<Response> {
  readonly response: Response;
  /** Header `x-ledger-position`, or undefined. */
  readonly position: string | undefined;
  /** Header `idempotent-replayed`. */
  readonly replayed: boolean;
}

/** The error of a call, with what its details say. */
export class CallError extends Error {
  /** gRPC status code. */
  readonly code: number;
  /** ErrorInfo.reason; empty when the server gave none. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Paths of the malformed fields. */
  readonly fields: readonly string[];
  /** RetryInfo.retry_delay; undefined when the server did not say. */
  readonly retryAfterMs: number | undefined;
  readonly replayed: boolean;

  constructor(error: ServiceError, replayed: boolean) {
    super(error.details);
    this.code = error.code;
    this.replayed = replayed;
    const [details] = error.metadata.get("grpc-status-details-bin");
    const { info, fields, retryAfterMs } = readDetails(details instanceof Buffer ? Status.decode(details) : undefined);
    this.reason = info?.reason ?? "";
    this.metadata = info?.metadata ?? {};
    this.fields = fields;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What the details of a google.rpc.Status say. */
export function readDetails(status: Status | undefined): {
  info: ErrorInfo | undefined;
  fields: string[];
  retryAfterMs: number | undefined;
} {
  let info: ErrorInfo | undefined;
  let retryAfterMs: number | undefined;
  const fields: string[] = [];
  for (const { typeUrl, value } of status?.details ?? []) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) info = ErrorInfo.decode(value);
    if (typeUrl.endsWith("/google.rpc.BadRequest")) {
      fields.push(...BadRequest.decode(value).fieldViolations.map(({ field }) => field));
    }
    if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const { seconds = 0n, nanos = 0 } = RetryInfo.decode(value).retryDelay ?? {};
      retryAfterMs = Number(seconds) * 1000 + nanos / 1_000_000;
    }
  }
  return { info: info?.domain === ERROR_DOMAIN ? info : undefined, fields, retryAfterMs };
}

export type UnaryCall<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: requestCallback<Response>,
) => { on(event: "metadata", listener: (metadata: Metadata) => void): unknown };

/** One call; rejects with a CallError. `headers` are sent as metadata. */
export function call<Request, Response>(
  client: Client,
  method: UnaryCall<Request, Response>,
  request: Request,
  headers: Readonly<Record<string, string>> = {},
  deadlineMs = DEFAULT_DEADLINE_MS,
): Promise<Answer<Response>> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve, reject) => {
    let received = new Metadata();
    const options = { deadline: Date.now() + deadlineMs };
    const pending = method.call(client, request, metadata, options, (error, response) => {
      const replayed = received.get("idempotent-replayed")[0] === "true";
      if (error !== null) reject(new CallError(error, replayed));
      else {
        const position = received.get("x-ledger-position")[0]?.toString();
        resolve({ response: response as Response, position, replayed });
      }
    });
    pending.on("metadata", (headersReceived) => {
      received = headersReceived;
    });
  });
}
