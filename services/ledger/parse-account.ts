import { isActiveCurrency } from "#lib/currencies.ts";
import { checkMetadata, type FieldCheck, isLine } from "#lib/fields.ts";
import { FIRST_PINNED_BUCKET, parseId } from "#lib/ids.ts";
import { Account_Kind, type CreateAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";

/** A request to open an account that is well formed. */
export interface ParsedAccountRequest {
  readonly ownerId: string;
  /** Undefined without an owner: then the caller and the reference or key place the account. */
  readonly ownerBucket: number | undefined;
  readonly currency: string;
  readonly kind: "WALLET" | "MERCHANT" | "SYSTEM";
  /** Undefined: unbounded. */
  readonly floorMinorUnits: bigint | undefined;
  readonly reference: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** SHA-256 of the canonical form: what an idempotency key is bound to. */
  readonly fingerprint: Buffer;
}

const MAX_REFERENCE_CHARACTERS = 64;
const MAX_OWNER_ID_CHARACTERS = 90;
const KINDS = {
  [Account_Kind.WALLET]: "WALLET",
  [Account_Kind.MERCHANT]: "MERCHANT",
  [Account_Kind.SYSTEM]: "SYSTEM",
} as const;

/** Throws INVALID_ARGUMENT naming every field that is malformed; `path` is where the request stands in a batch, or "". */
export function parseAccountRequest(
  check: FieldCheck,
  path: string,
  request: CreateAccountRequest,
): ParsedAccountRequest {
  const ownerBucket = parseOwnerId(check, `${path}owner_id`, request.ownerId);
  check.require(
    isActiveCurrency(request.currency),
    `${path}currency`,
    "must be an ISO 4217 currency code, such as EUR, that is not withdrawn",
  );
  const kind = KINDS[request.kind as keyof typeof KINDS];
  check.require(kind !== undefined, `${path}kind`, "must be WALLET, MERCHANT or SYSTEM");
  const floor = request.floor;
  check.require(
    floor?.$case !== "floorMinorUnits" || floor.value <= 0n,
    `${path}floor_minor_units`,
    "must be zero or below: a new account has nothing",
  );
  checkReference(check, `${path}reference`, request.reference);
  checkMetadata(check, `${path}metadata`, request.metadata);
  const { ownerId, currency, reference, metadata } = request;
  const floorMinorUnits = floorOf(floor);
  return {
    ownerId,
    ownerBucket,
    currency,
    // A violation was noted when it is undefined, and `check.done()` throws before it is used.
    kind: kind ?? "WALLET",
    floorMinorUnits,
    reference,
    metadata,
    fingerprint: canonicalHash([
      ownerId,
      currency,
      kind,
      floorMinorUnits?.toString() ?? "unbounded",
      reference,
      Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)),
    ]),
  };
}

/** The bucket of an owner; undefined when there is none. Notes a violation when it is no id that places accounts. */
export function parseOwnerId(check: FieldCheck, field: string, ownerId: string): number | undefined {
  const owner = ownerId.length > MAX_OWNER_ID_CHARACTERS ? undefined : parseId(ownerId);
  check.require(
    ownerId === "" || (owner !== undefined && owner.bucket < FIRST_PINNED_BUCKET),
    field,
    `must be a TypeID of a UUIDv7 with a bucket below ${FIRST_PINNED_BUCKET}, such as user_01jd…: the bucket places the account`,
  );
  return owner?.bucket;
}

/** Notes a violation unless the text may be a reference, or is empty. */
export function checkReference(check: FieldCheck, field: string, reference: string): void {
  check.require(
    isLine(reference, MAX_REFERENCE_CHARACTERS) && !reference.startsWith("system:"),
    field,
    `must be at most ${MAX_REFERENCE_CHARACTERS} characters without control characters, and not begin with system:`,
  );
}

function floorOf(floor: CreateAccountRequest["floor"]): bigint | undefined {
  switch (floor?.$case) {
    case undefined:
      return 0n;
    case "floorMinorUnits":
      return floor.value;
    case "unbounded":
      return floor.value ? undefined : 0n;
  }
}
