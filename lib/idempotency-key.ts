import type { Call } from "#lib/grpc-server.ts";
import { type FieldViolation, malformed } from "#lib/refusal.ts";

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
