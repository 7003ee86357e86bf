import type { OutgoingHttpHeaders } from "node:http2";
import { status } from "@grpc/grpc-js";
import { Refusal, type RefusalStatus } from "#lib/refusal.ts";
import type { Any } from "#proto/google/protobuf/any.ts";
import { BadRequest, ErrorInfo, ResourceInfo, RetryInfo } from "#proto/google/rpc/error_details.ts";
import { Status } from "#proto/google/rpc/status.ts";

/** Refusals as gRPC statuses: the one place where they become what callers see. */

export const ERROR_DOMAIN = "ledgermesh";
/** A bug, as callers see it: fixed text, while the log has the rest. */
export const internalError = new Refusal(
  "INTERNAL",
  "INTERNAL",
  "Something failed on our side; it was logged. Try again with the same idempotency key.",
);

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

function pack(type: string, value: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/${type}`, value: Buffer.from(value) };
}

/** A refusal as the trailers of a call. */
export function refusalTrailers(refusal: Refusal): OutgoingHttpHeaders {
  const details = Buffer.from(Status.encode(refusalToStatus(refusal)).finish())
    .toString("base64")
    .replaceAll("=", "");
  return { ...statusTrailers(status[refusal.status], refusal.message), "grpc-status-details-bin": details };
}

/** A status without details, as the trailers of a call. */
export function statusTrailers(code: number, message: string): OutgoingHttpHeaders {
  return { "grpc-status": String(code), "grpc-message": percentEncode(message) };
}

/** `grpc-message`: printable ASCII stands for itself, the rest as the percent-encoded bytes of its UTF-8. */
function percentEncode(text: string): string {
  return text
    .toWellFormed()
    .replaceAll(/[^ -$&-~]+/g, (part) =>
      [...Buffer.from(part)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
    );
}

/** For exhaustiveness: every status a refusal may have exists in gRPC. */
status satisfies Record<RefusalStatus, number>;
