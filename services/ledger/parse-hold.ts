import { checkCurrency, checkTime, FieldCheck } from "#lib/fields.ts";
import { parseId } from "#lib/ids.ts";
import type { CaptureHoldRequest, CreateHoldRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import { checkTexts, type ParsedAccount, parseAccount, type TransferTexts } from "#services/ledger/parse-transfer.ts";

/** A request for a hold that is well formed; its credit account may be a `system:` name yet. */
export interface ParsedHold {
  readonly debit: Extract<ParsedAccount, { kind: "account" }>;
  readonly credit: ParsedAccount;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  readonly expireTimeMs: number | undefined;
  /** SHA-256 of the canonical form: what an idempotency key is bound to. */
  readonly fingerprint: Buffer;
}

/** A request for a capture that is well formed. */
export interface ParsedCapture extends TransferTexts {
  readonly hold: ParsedHoldId;
  /** Undefined: all that remains. */
  readonly amountMinorUnits: bigint | undefined;
  readonly final: boolean;
  readonly fingerprint: Buffer;
}

export interface ParsedHoldId {
  readonly id: string;
  readonly uuid: string;
  readonly bucket: number;
}

const DEFAULT_TYPE = "capture";

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
export function parseCreateHold(request: CreateHoldRequest): ParsedHold {
  const { debitAccountId, creditAccountId, amountMinorUnits, currency, expireTime } = request;
  const check = new FieldCheck();
  const debit = parseId(debitAccountId, "acct");
  check.require(
    debit !== undefined,
    "debit_account_id",
    "must be an account id (acct_…): what is held is on its shard",
  );
  const credit = parseAccount(check, "credit_account_id", creditAccountId);
  check.require(
    debitAccountId !== creditAccountId || credit === undefined,
    "credit_account_id",
    "is the debit account too: money must move between two accounts",
  );
  check.require(amountMinorUnits > 0n, "amount_minor_units", "must be above zero");
  checkCurrency(check, "currency", currency);
  checkTime(check, "expire_time", expireTime);
  check.done();
  if (debit === undefined || credit === undefined) throw new Error("a hold without accounts was not refused");
  const expireTimeMs = expireTime?.getTime();
  return {
    debit: { kind: "account", id: debitAccountId, ...debit },
    credit,
    amountMinorUnits,
    currency,
    expireTimeMs,
    fingerprint: canonicalHash([
      debitAccountId,
      creditAccountId,
      amountMinorUnits.toString(),
      currency,
      expireTimeMs ?? null,
    ]),
  };
}

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
export function parseCapture(request: CaptureHoldRequest): ParsedCapture {
  const { holdId, amountMinorUnits, final } = request;
  const check = new FieldCheck();
  const hold = checkHoldId(check, holdId);
  check.require(
    amountMinorUnits === undefined || amountMinorUnits > 0n,
    "amount_minor_units",
    "must be above zero, or left out for all that remains",
  );
  const texts = checkTexts(check, request, DEFAULT_TYPE);
  check.done();
  const { type, memo, metadata } = texts;
  const pairs = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  const fingerprint = canonicalHash([holdId, amountMinorUnits?.toString() ?? null, final, type, memo, pairs]);
  return { hold, amountMinorUnits, final, ...texts, fingerprint };
}

/** Throws INVALID_ARGUMENT when it is none. */
export function parseHoldId(holdId: string): ParsedHoldId {
  const check = new FieldCheck();
  const hold = checkHoldId(check, holdId);
  check.done();
  return hold;
}

function checkHoldId(check: FieldCheck, holdId: string): ParsedHoldId {
  const parsed = parseId(holdId, "hold");
  check.require(parsed !== undefined, "hold_id", "must be a hold id (hold_…)");
  // A violation was noted when it is undefined, and `check.done()` throws before it is used.
  return { id: holdId, ...(parsed ?? { uuid: "", bucket: 0 }) };
}
