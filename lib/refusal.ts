/**
 * A refusal: an expected "no" with a stable reason. Handlers throw it; only grpc-status.ts turns it into a gRPC status.
 * Anything else that is thrown is a bug and reaches the caller as INTERNAL with fixed text.
 */
export type RefusalStatus =
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "FAILED_PRECONDITION"
  | "RESOURCE_EXHAUSTED"
  | "DEADLINE_EXCEEDED"
  | "UNAVAILABLE"
  | "UNIMPLEMENTED"
  | "UNAUTHENTICATED"
  | "PERMISSION_DENIED"
  | "INTERNAL";

export interface FieldViolation {
  /** Path in the request, such as `postings[0].amount_minor_units`. */
  readonly field: string;
  /** What is wrong and what would be right. */
  readonly description: string;
}

export class Refusal extends Error {
  readonly status: RefusalStatus;
  /** UPPER_SNAKE, stable: programs decide by it. */
  readonly reason: string;
  /** Ids and figures that explain it; never personal data. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  /** Present when trying again later can help. */
  readonly retryAfterMs: number | undefined;

  constructor(
    status: RefusalStatus,
    reason: string,
    message: string,
    more: {
      metadata?: Readonly<Record<string, string>>;
      violations?: readonly FieldViolation[];
      retryAfterMs?: number;
    } = {},
  ) {
    super(message);
    this.name = "Refusal";
    this.status = status;
    this.reason = reason;
    this.metadata = more.metadata ?? {};
    this.violations = more.violations ?? [];
    this.retryAfterMs = more.retryAfterMs;
  }
}

/** Something that the code holds to be impossible has happened. */
export class Defect extends Error {}

/**
 * What an answer names of the violations, and what its message spells out: an error travels in HTTP/2 trailers, which a peer
 * takes up to a few KB, and there may be thousands of errors in the answer to a batch.
 */
const MAX_VIOLATIONS = 10;
const MAX_VIOLATIONS_IN_MESSAGE = 3;

/** INVALID_ARGUMENT for fields that are malformed, each with its path and what would be right; the first ones, when many. */
export function malformed(violations: readonly FieldViolation[], reason = "MALFORMED_REQUEST"): Refusal {
  const spelledOut = violations
    .slice(0, MAX_VIOLATIONS_IN_MESSAGE)
    .map(({ field, description }) => `${field}: ${description}`);
  const more = violations.length - spelledOut.length;
  const message = [...spelledOut, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
  return new Refusal("INVALID_ARGUMENT", reason, message, { violations: violations.slice(0, MAX_VIOLATIONS) });
}
