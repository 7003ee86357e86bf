import { randomBytes, randomInt } from "node:crypto";
import { Secret, TOTP } from "otpauth";
import type { PoolClient } from "pg";
import { FieldCheck } from "#lib/fields.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { addIdentityEvent, type IdentityEvent } from "#services/identity/add-identity-event.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Self } from "#services/identity/self.ts";

/**
 * The second factor: time-based one-time passwords (RFC 6238: SHA-1, six digits, 30 s), and recovery codes in their place.
 *
 *   (none)   -> PENDING   EnrolTotp, with the password
 *   PENDING  -> PENDING   EnrolTotp again: another secret, fresh count of wrong codes
 *   PENDING  -> ACTIVE    ConfirmTotp, with a right code, within 15 minutes; after them it counts as none
 *   ACTIVE   -> (none)    DisableTotp, with a code; or the user is closed
 *
 * Everything else is refused. In both states five wrong codes in a row lock it for 15 minutes, in which no code is looked at, also no
 * right one; a right one in time starts the count anew.
 *
 * A code is accepted once: the newest time step whose code was accepted is kept, and moves forward only, by an update under its own
 * condition. The clock is that of the shard's Postgres.
 */
const PERIOD_SECONDS = 30;
const DIGITS = 6;
/** A code of the step before or after is taken too: clocks differ, and people type. */
const WINDOW_STEPS = 1;
const SECRET_BYTES = 20;
const MAX_WRONG_CODES = 5;
const LOCK_MINUTES = 15;
export const CONFIRM_MINUTES = 15;
const ISSUER = "Ledgermesh";

const RECOVERY_CODES = 10;
/** Letters alone, without those that look alike: 16 of 22 are 71 bits, and no code looks like a number of a card. */
const RECOVERY_ALPHABET = "abcdefghjkmnpqrstvwxyz";
const RECOVERY_LETTERS = 16;
const RECOVERY_GROUP = 4;

/** A new secret, sealed for the database and as the authenticator takes it. */
export function newSecret(ctx: Context, self: Self, label: string): { sealed: Buffer; base32: string; uri: string } {
  const bytes = randomBytes(SECRET_BYTES);
  const totp = totpOf(bytes, label);
  return {
    sealed: ctx.factorSeal.seal(sealName(self.userUuid), bytes),
    base32: totp.secret.base32,
    uri: totp.toString(),
  };
}

function totpOf(secret: Buffer, label: string): TOTP {
  const buffer = new Uint8Array(secret).buffer;
  return new TOTP({
    issuer: ISSUER,
    label,
    algorithm: "SHA1",
    digits: DIGITS,
    period: PERIOD_SECONDS,
    secret: new Secret({ buffer }),
  });
}

const sealName = (userUuid: string): string => `totp of ${userUuid}`;

/** The time step whose code this is, at a time in ms since 1970; undefined for a wrong code. */
export function stepOfCode(secret: Buffer, code: string, nowMs: number): number | undefined {
  const delta = totpOf(secret, "").validate({ token: code, timestamp: nowMs, window: WINDOW_STEPS });
  return delta === null ? undefined : Math.floor(nowMs / 1000 / PERIOD_SECONDS) + delta;
}

/** What somebody shows as second factor: one of the two. */
export type Factor =
  | { readonly kind: "totp"; readonly code: string }
  | { readonly kind: "recovery"; readonly code: string };

/** Throws INVALID_ARGUMENT unless it is one of the two, in its form; spaces and dashes make no difference. */
export function parseFactor(request: { readonly totpCode: string; readonly recoveryCode: string }): Factor {
  const check = new FieldCheck();
  const totpCode = request.totpCode.replaceAll(/[\s-]/g, "");
  const recoveryCode = request.recoveryCode.replaceAll(/[\s-]/g, "").toLowerCase();
  const isTotp = request.recoveryCode === "";
  if (isTotp) checkTotpCode(check, totpCode);
  else {
    check.require(request.totpCode === "", "totp_code", "is left out where recovery_code is given");
    check.require(/^[a-z]{16}$/.test(recoveryCode), "recovery_code", `must be ${RECOVERY_LETTERS} letters`);
  }
  check.done();
  return isTotp ? { kind: "totp", code: totpCode } : { kind: "recovery", code: recoveryCode };
}

function checkTotpCode(check: FieldCheck, code: string): void {
  check.require(/^\d{6}$/.test(code), "totp_code", `must be ${DIGITS} digits`);
}

/** What came of showing a factor. Whatever it is, it must be committed: wrong codes count. */
export type FactorOutcome =
  | { readonly kind: "accepted" }
  | { readonly kind: "wrong"; readonly left: number }
  | { readonly kind: "used" }
  | { readonly kind: "locked"; readonly retryAfterMs: number }
  | { readonly kind: "none" };

/** Throws for everything but acceptance. Call it after the commit. */
export function requireAccepted(outcome: FactorOutcome): void {
  const refusal = refusalOf(outcome);
  if (refusal !== undefined) throw refusal;
}

function refusalOf(outcome: FactorOutcome): Refusal | undefined {
  switch (outcome.kind) {
    case "accepted":
      return undefined;
    case "wrong":
      return refusals.secondFactorInvalid(outcome.left);
    case "used":
      return refusals.secondFactorUsed();
    case "locked":
      return refusals.secondFactorLocked(outcome.retryAfterMs);
    case "none":
      return refusals.totpNotEnrolled();
  }
}

interface TotpRow {
  readonly state: "PENDING" | "ACTIVE";
  readonly secret_sealed: Buffer;
  readonly failed_attempts: number;
  /** By the clock of the shard's Postgres. */
  readonly now_ms: number;
  /** 0 or below: it is not locked. */
  readonly locked_ms: number;
  readonly is_over: boolean;
}

/**
 * Checks a factor of a user in a state, within the caller's transaction, which must be committed whatever the outcome. Of several at
 * once with the same code one is accepted: the others wait for its commit, and find the code used.
 */
export async function useFactor(
  ctx: Context,
  db: PoolClient,
  user: Pick<Self, "userId" | "userUuid" | "bucket">,
  state: TotpRow["state"],
  factor: Factor,
): Promise<FactorOutcome> {
  const { rows } = await db.query<TotpRow>(
    `select state, secret_sealed, failed_attempts, extract(epoch from clock_timestamp()) * 1000::float8 as now_ms,
            coalesce(extract(epoch from locked_until - clock_timestamp()) * 1000, 0)::float8 as locked_ms,
            state = 'PENDING' and created_at < clock_timestamp() - make_interval(mins => $2) as is_over
       from identity.totp where user_id = $1 for update`,
    [user.userUuid, CONFIRM_MINUTES],
  );
  const [row] = rows;
  if (row === undefined || row.state !== state || row.is_over) return { kind: "none" };
  if (row.locked_ms > 0) return { kind: "locked", retryAfterMs: Math.ceil(row.locked_ms) };
  switch (factor.kind) {
    case "totp": {
      const secret = ctx.factorSeal.open(sealName(user.userUuid), row.secret_sealed);
      const step = stepOfCode(secret, factor.code, Number(row.now_ms));
      if (step === undefined) return noteWrongCode(db, user, row.failed_attempts + 1);
      const { rowCount } = await db.query(
        `update identity.totp set last_step = $2, failed_attempts = 0, locked_until = null, version = version + 1
          where user_id = $1 and last_step < $2`,
        [user.userUuid, step],
      );
      return { kind: rowCount === 1 ? "accepted" : "used" };
    }
    case "recovery": {
      const hash = ctx.keys.recoveryCodeHash(user.userId, factor.code);
      const { rows: codes } = await db.query<{ is_used: boolean }>(
        "select used_at is not null as is_used from identity.recovery_codes where user_id = $1 and code_hash = $2 for update",
        [user.userUuid, hash],
      );
      if (codes[0] === undefined) return noteWrongCode(db, user, row.failed_attempts + 1);
      if (codes[0].is_used) return { kind: "used" };
      await db.query(
        "update identity.recovery_codes set used_at = now() where user_id = $1 and code_hash = $2 and used_at is null",
        [user.userUuid, hash],
      );
      await db.query("update identity.totp set failed_attempts = 0, locked_until = null where user_id = $1", [
        user.userUuid,
      ]);
      const { rows: left } = await db.query<{ count: number }>(
        "select count(*)::int as count from identity.recovery_codes where user_id = $1 and used_at is null",
        [user.userUuid],
      );
      await addUserEvent(db, user, "recovery_code_used", { userId: user.userId, remainingCodes: left[0]?.count ?? 0 });
      return { kind: "accepted" };
    }
  }
}

async function noteWrongCode(
  db: PoolClient,
  user: Pick<Self, "userId" | "userUuid" | "bucket">,
  failedAttempts: number,
): Promise<FactorOutcome> {
  const isLocked = failedAttempts >= MAX_WRONG_CODES;
  await db.query(
    `update identity.totp
        set failed_attempts = case when $3 then 0 else $2 end,
            locked_until = case when $3 then clock_timestamp() + make_interval(mins => $4) end
      where user_id = $1`,
    [user.userUuid, failedAttempts, isLocked, LOCK_MINUTES],
  );
  if (!isLocked) return { kind: "wrong", left: MAX_WRONG_CODES - failedAttempts };
  await addUserEvent(db, user, "totp_locked", { userId: user.userId });
  return { kind: "locked", retryAfterMs: LOCK_MINUTES * 60_000 };
}

type UserEventType = "totp_enabled" | "totp_disabled" | "totp_locked" | "recovery_code_used";

/** Tells of a change of how a user signs in; the user's version rises. Last in its transaction. */
export async function addUserEvent<Type extends UserEventType>(
  db: PoolClient,
  { userId, userUuid, bucket }: Pick<Self, "userId" | "userUuid" | "bucket">,
  type: Type,
  payload: Extract<IdentityEvent, { type: Type }>["payload"],
): Promise<void> {
  const { rows } = await db.query<{ version: string }>(
    "update identity.users set version = version + 1, updated_at = now() where user_id = $1 returning version",
    [userUuid],
  );
  const [user] = rows;
  if (user === undefined) throw new Defect(`${userId} has a second factor and no row`);
  const event = { type, payload, bucket, aggregateId: userId, aggregateVersion: BigInt(user.version) };
  await addIdentityEvent(db, event as IdentityEvent);
}

/** Makes a user's recovery codes anew. Answers them as they are shown; the table has their hashes. */
export async function makeRecoveryCodes(ctx: Context, db: PoolClient, self: Self): Promise<string[]> {
  const codes = Array.from({ length: RECOVERY_CODES }, newRecoveryCode);
  await db.query("delete from identity.recovery_codes where user_id = $1", [self.userUuid]);
  await db.query(
    "insert into identity.recovery_codes (user_id, bucket, code_hash) select $1, $2, unnest($3::bytea[])",
    [self.userUuid, self.bucket, codes.map((code) => ctx.keys.recoveryCodeHash(self.userId, code))],
  );
  return codes.map((code) => code.replaceAll(new RegExp(`(.{${RECOVERY_GROUP}})(?=.)`, "g"), "$1-"));
}

function newRecoveryCode(): string {
  const letters = Array.from(
    { length: RECOVERY_LETTERS },
    () => RECOVERY_ALPHABET[randomInt(RECOVERY_ALPHABET.length)],
  );
  return letters.join("");
}
