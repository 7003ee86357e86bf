import { checkCurrency, checkMetadata, checkTime, checkType, FieldCheck, isLine } from "#lib/fields.ts";
import { parseId } from "#lib/ids.ts";
import type { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountName } from "#services/ledger/command.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import { SYSTEM_PREFIX, TRANSIT_REFERENCE } from "#services/ledger/transfer.ts";

/** What a caller says of a transfer. */
export interface TransferTexts {
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A request that is well formed; its `system:` accounts are not resolved yet. */
export interface ParsedTransfer extends TransferTexts {
  readonly postings: readonly ParsedPosting[];
  readonly effectiveTimeMs: number | undefined;
  /** SHA-256 of the canonical form: what an idempotency key is bound to. */
  readonly fingerprint: Buffer;
}

export interface ParsedPosting {
  readonly debit: ParsedAccount;
  readonly credit: ParsedAccount;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}

export type ParsedAccount =
  | (AccountName & { readonly kind: "account"; readonly bucket: number })
  | { readonly kind: "system"; readonly reference: string };

export const MAX_POSTINGS = 100;
export const MAX_MEMO_CHARACTERS = 140;
const SYSTEM_PATTERN = /^system:[a-z][a-z0-9_]{0,55}$/;
const DEFAULT_TYPE = "transfer";

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
export function parseTransfer(request: CreateTransferRequest): ParsedTransfer {
  const check = new FieldCheck();
  const count = request.postings.length;
  check.require(
    count >= 1 && count <= MAX_POSTINGS,
    "postings",
    `must hold 1 to ${MAX_POSTINGS} postings, not ${count}`,
  );
  const postings: ParsedPosting[] = [];
  for (const [index, posting] of request.postings.slice(0, MAX_POSTINGS).entries()) {
    const field = `postings[${index}]`;
    const debit = parseAccount(check, `${field}.debit_account_id`, posting.debitAccountId);
    const credit = parseAccount(check, `${field}.credit_account_id`, posting.creditAccountId);
    check.require(
      posting.debitAccountId !== posting.creditAccountId || debit === undefined,
      `${field}.credit_account_id`,
      "is the debit account too: money must move between two accounts",
    );
    check.require(
      debit?.kind !== "system" || credit?.kind !== "system",
      field,
      "has system accounts on both sides: one must be an account id, which says the shard",
    );
    check.require(posting.amountMinorUnits > 0n, `${field}.amount_minor_units`, "must be above zero");
    checkCurrency(check, `${field}.currency`, posting.currency);
    if (debit === undefined || credit === undefined) continue;
    postings.push({ debit, credit, amountMinorUnits: posting.amountMinorUnits, currency: posting.currency });
  }
  const texts = checkTexts(check, request, DEFAULT_TYPE);
  checkTime(check, "effective_time", request.effectiveTime);
  const effectiveTimeMs = request.effectiveTime?.getTime();
  check.done();
  return { postings, ...texts, effectiveTimeMs, fingerprint: fingerprintOf(request, texts.type) };
}

/** Notes a violation for each text of a transfer that is malformed; answers them with the type filled in. */
export function checkTexts(check: FieldCheck, request: TransferTexts, defaultType: string): TransferTexts {
  const { memo, metadata } = request;
  const type = request.type === "" ? defaultType : request.type;
  checkType(check, "type", type);
  check.require(
    isLine(memo, MAX_MEMO_CHARACTERS),
    "memo",
    `must be at most ${MAX_MEMO_CHARACTERS} characters without control characters`,
  );
  checkMetadata(check, "metadata", metadata);
  return { type, memo, metadata };
}

/** Notes a violation unless the text names an account, or a system account that may be named. */
export function parseAccount(check: FieldCheck, field: string, text: string): ParsedAccount | undefined {
  if (text.startsWith(SYSTEM_PREFIX)) {
    const named = check.require(SYSTEM_PATTERN.test(text), field, "must be system:NAME with a NAME of a-z, 0-9 and _");
    const free = check.require(text !== TRANSIT_REFERENCE, field, "belongs to transfers between shards: name another");
    return named && free ? { kind: "system", reference: text } : undefined;
  }
  const parsed = parseId(text, "acct");
  check.require(parsed !== undefined, field, "must be an account id (acct_…) or system:NAME");
  return parsed === undefined ? undefined : { kind: "account", id: text, uuid: parsed.uuid, bucket: parsed.bucket };
}

/** The same for the same request whatever the order of its metadata, and whether a default was written out or not. */
function fingerprintOf(request: CreateTransferRequest, type: string): Buffer {
  const postings = request.postings.map((posting) => [
    posting.debitAccountId,
    posting.creditAccountId,
    posting.amountMinorUnits.toString(),
    posting.currency,
  ]);
  const metadata = Object.entries(request.metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  return canonicalHash([postings, type, request.memo, metadata, request.effectiveTime?.getTime() ?? null]);
}
