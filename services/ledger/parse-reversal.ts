import { checkMetadata, checkType, FieldCheck, isLine } from "#lib/fields.ts";
import { parseId } from "#lib/ids.ts";
import type { ReverseTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import { MAX_MEMO_CHARACTERS, MAX_POSTINGS } from "#services/ledger/parse-transfer.ts";

/** A request that is well formed; whether there is such a transfer is not known yet. */
export interface ParsedReversal {
  readonly transferId: string;
  readonly transferUuid: string;
  /** Of the transfer. */
  readonly bucket: number;
  /** By their index; undefined: everything that is left of all of them. */
  readonly postings: readonly AskedPosting[] | undefined;
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** SHA-256 of the canonical form: what an idempotency key is bound to. */
  readonly fingerprint: Buffer;
}

export interface AskedPosting {
  /** Of the transfer that is taken back, from 0. */
  readonly index: number;
  readonly amountMinorUnits: bigint;
  /** Where it stands in the request. */
  readonly field: string;
}

const DEFAULT_TYPE = "reversal";

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
export function parseReversal(request: ReverseTransferRequest): ParsedReversal {
  const check = new FieldCheck();
  const parsed = parseId(request.transferId, "xfer");
  check.require(parsed !== undefined, "transfer_id", "must be a transfer id (xfer_…)");
  const count = request.postings.length;
  check.require(count <= MAX_POSTINGS, "postings", `must hold up to ${MAX_POSTINGS} postings, not ${count}`);
  const seen = new Map<number, number>();
  for (const [position, { index, amountMinorUnits }] of request.postings.slice(0, MAX_POSTINGS).entries()) {
    const field = `postings[${position}]`;
    const first = seen.get(index);
    check.require(index >= 0, `${field}.index`, "must be the index of a posting of the transfer, from 0");
    check.require(first === undefined, `${field}.index`, `is the same as that of postings[${first}]: name each once`);
    check.require(amountMinorUnits > 0n, `${field}.amount_minor_units`, "must be above zero");
    if (first === undefined) seen.set(index, position);
  }
  const type = request.type === "" ? DEFAULT_TYPE : request.type;
  checkType(check, "type", type);
  check.require(
    isLine(request.memo, MAX_MEMO_CHARACTERS),
    "memo",
    `must be at most ${MAX_MEMO_CHARACTERS} characters without control characters`,
  );
  checkMetadata(check, "metadata", request.metadata);
  check.done();
  if (parsed === undefined) throw new Error("a malformed transfer id was not refused");
  const { transferId, memo, metadata } = request;
  const postings = request.postings
    .map(({ index, amountMinorUnits }, position) => ({ index, amountMinorUnits, field: `postings[${position}].index` }))
    .sort((a, b) => a.index - b.index);
  return {
    transferId,
    transferUuid: parsed.uuid,
    bucket: parsed.bucket,
    postings: count === 0 ? undefined : postings,
    type,
    memo,
    metadata,
    fingerprint: fingerprintOf(request, postings, type),
  };
}

/** The same for the same request, whatever the order of its postings and metadata. */
function fingerprintOf(
  { transferId, memo, metadata }: ReverseTransferRequest,
  postings: readonly AskedPosting[],
  type: string,
): Buffer {
  const amounts = postings.map(({ index, amountMinorUnits }) => [index, amountMinorUnits.toString()]);
  const pairs = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  return canonicalHash([transferId, amounts, type, memo, pairs]);
}
