import {
  type handleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Logger } from "#lib/log.ts";
import { type FieldViolation, malformed, Refusal, type RefusalStatus } from "#lib/refusal.ts";
import type { Any } from "#proto/google/protobuf/any.ts";
import { BadRequest, ErrorInfo, ResourceInfo, RetryInfo } from "#proto/google/rpc/error_details.ts";
import { Status } from "#proto/google/rpc/status.ts";

/** The one place where refusals become gRPC statuses, and where headers are read and written. */

export const ERROR_DOMAIN = "ledgermesh";
/** A bug, as callers see it: fixed text, while the log has the rest. */
export const internalError = new Refusal(
  "INTERNAL",
  "INTERNAL",
  "Something failed on our side; it was logged. Try again with the same idempotency key.",
);
/** The largest request: a full batch (api.md). */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;
/** An account page or a batch answer may be larger than the request. */
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;
const MAX_CONCURRENT_CALLS_PER_CONNECTION = 10_000;

/** What a handler may know of, and add to, the call that it answers. */
export interface Call {
  /** Who calls. Until identity exists everybody on loopback is `local`. */
  readonly caller: string;
  /** The header `idempotency-key`; undefined when absent. */
  readonly idempotencyKey: string | undefined;
  /** The header `x-read-after`; undefined when absent. */
  readonly readAfter: string | undefined;
  /** Header `x-ledger-position` of the answer. */
  setPosition(token: string): void;
  /** Header `idempotent-replayed: true` of the answer. */
  markReplayed(): void;
}

export type Handler<Context, Request, Response> = (context: Context, request: Request, call: Call) => Promise<Response>;

/** Wraps a handler for grpc-js: headers in, headers out, refusals to statuses, bugs to INTERNAL and the log. */
export function unary<Context, Request, Response>(
  context: Context,
  log: Logger,
  handler: Handler<Context, Request, Response>,
): handleUnaryCall<Request, Response> {
  return (grpcCall: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) => {
    let headers: Metadata | undefined;
    const call: Call = {
      caller: "local",
      idempotencyKey: headerText(grpcCall.metadata, "idempotency-key"),
      readAfter: headerText(grpcCall.metadata, "x-read-after"),
      setPosition(token) {
        headers ??= new Metadata();
        headers.set("x-ledger-position", token);
      },
      markReplayed() {
        headers ??= new Metadata();
        headers.set("idempotent-replayed", "true");
      },
    };
    handler(context, grpcCall.request, call).then(
      (response) => {
        if (headers !== undefined) grpcCall.sendMetadata(headers);
        answer(null, response);
      },
      (error: unknown) => {
        if (headers !== undefined) grpcCall.sendMetadata(headers);
        const refusal = error instanceof Refusal ? error : internalError;
        if (refusal === internalError) log.error({ err: error, method: grpcCall.getPath() }, "a handler failed");
        answer({
          code: status[refusal.status],
          details: refusal.message.toWellFormed(),
          metadata: statusDetails(refusal),
        });
      },
    );
  };
}

/** The first value of a header; several values of one header that differ are refused. */
function headerText(metadata: Metadata, name: string): string | undefined {
  const values = metadata.get(name);
  const first = values[0];
  if (first === undefined) return undefined;
  return values.length === 1 ? String(first) : values.map(String).join(",");
}

/** A refusal as google.rpc.Status: what batch results hold, and what travels in `grpc-status-details-bin`. */
export function refusalToStatus(refusal: Refusal): Status {
  const details: Any[] = [
    pack(
      "google.rpc.ErrorInfo",
      ErrorInfo.encode({ reason: refusal.reason, domain: ERROR_DOMAIN, metadata: { ...refusal.metadata } }).finish(),
    ),
  ];
  if (refusal.violations.length > 0) {
    const fieldViolations = refusal.violations.map(({ field, description }) => ({
      field,
      description,
      reason: "",
      localizedMessage: undefined,
    }));
    details.push(pack("google.rpc.BadRequest", BadRequest.encode({ fieldViolations }).finish()));
  }
  if (refusal.retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.trunc(refusal.retryAfterMs / 1000)),
      nanos: (refusal.retryAfterMs % 1000) * 1_000_000,
    };
    details.push(pack("google.rpc.RetryInfo", RetryInfo.encode({ retryDelay }).finish()));
  }
  const { resource_type: resourceType, resource_name: resourceName } = refusal.metadata;
  if (resourceType !== undefined && resourceName !== undefined) {
    details.push(
      pack(
        "google.rpc.ResourceInfo",
        ResourceInfo.encode({ resourceType, resourceName, owner: "", description: "" }).finish(),
      ),
    );
  }
  return { code: status[refusal.status], message: refusal.message.toWellFormed(), details };
}

function statusDetails(refusal: Refusal): Metadata {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode(refusalToStatus(refusal)).finish()));
  return metadata;
}

function pack(type: string, value: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/${type}`, value: Buffer.from(value) };
}

/**
 * The idempotency key of a command, from the header or the field. Throws a Refusal when there is none
 * (`IDEMPOTENCY_KEY_REQUIRED`), the two disagree (`IDEMPOTENCY_KEY_MISMATCH`), or it is malformed.
 */
export function idempotencyKeyOf(call: Pick<Call, "idempotencyKey">, field: string): string {
  const header = call.idempotencyKey;
  if (header !== undefined && field !== "" && header !== field) {
    throw malformed(
      [
        violation(
          "idempotency_key",
          "differs from the header Idempotency-Key: send one of the two, or the same in both",
        ),
      ],
      "IDEMPOTENCY_KEY_MISMATCH",
    );
  }
  const key = header ?? field;
  if (key === "") {
    throw malformed(
      [
        violation(
          "idempotency_key",
          "is required: send the header Idempotency-Key (or this field), new for each command and the same for each retry",
        ),
      ],
      "IDEMPOTENCY_KEY_REQUIRED",
    );
  }
  if (!IDEMPOTENCY_KEY_PATTERN.test(key)) {
    throw malformed(
      [violation("idempotency_key", "must be 1 to 128 printable ASCII characters without spaces")],
      "IDEMPOTENCY_KEY_MALFORMED",
    );
  }
  return key;
}

const IDEMPOTENCY_KEY_PATTERN = /^[!-~]{1,128}$/;

function violation(field: string, description: string): FieldViolation {
  return { field, description };
}

export interface GrpcServer {
  /** Refuses new calls and waits for those under way. */
  stop(): Promise<void>;
}

/** Starts a server on loopback. Throws when the port is taken. */
export async function startGrpcServer(
  port: number,
  services: readonly { definition: ServiceDefinition; handlers: UntypedServiceImplementation }[],
): Promise<GrpcServer> {
  const server = new Server({
    "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
    "grpc.max_send_message_length": MAX_RESPONSE_BYTES,
    "grpc.max_concurrent_streams": MAX_CONCURRENT_CALLS_PER_CONNECTION,
  });
  for (const { definition, handlers } of services) server.addService(definition, handlers);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return {
    stop: () =>
      new Promise((resolve) => {
        server.tryShutdown(() => resolve());
      }),
  };
}

/** For exhaustiveness: every status a refusal may have exists in gRPC. */
status satisfies Record<RefusalStatus, number>;
