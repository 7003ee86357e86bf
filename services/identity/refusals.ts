import { malformed, Refusal, type RefusalStatus } from "#lib/refusal.ts";

/** Every reason for which this service refuses, beside malformed fields (lib/refusal.ts) and idempotency keys. */

const RETRY_AFTER_MS = 1_000;

function refuse(status: RefusalStatus, reason: string, message: string, metadata: Record<string, string>): Refusal {
  return new Refusal(status, reason, message, { metadata });
}

export const refusals = {
  emailAlreadyUsed: () =>
    refuse("ALREADY_EXISTS", "EMAIL_ALREADY_USED", "Somebody has signed up with this e-mail address already.", {}),

  userNotFound: () => refuse("NOT_FOUND", "USER_NOT_FOUND", "There is no such user any more.", {}),

  sessionNotFound: (sessionId: string) =>
    refuse("NOT_FOUND", "SESSION_NOT_FOUND", `There is no session ${sessionId}.`, { session_id: sessionId }),

  passwordWrong: () =>
    refuse("FAILED_PRECONDITION", "PASSWORD_WRONG", "This is not your password, or it was changed just now.", {}),

  emailChangeUnderWay: () =>
    new Refusal(
      "UNAVAILABLE",
      "EMAIL_CHANGE_UNDER_WAY",
      "A confirmed change of the e-mail address is just being carried out. Nothing has happened; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),

  emailTokenInvalid: () =>
    refuse(
      "FAILED_PRECONDITION",
      "EMAIL_TOKEN_INVALID",
      "The token is none of ours, was used, is older than 24 hours, or its change was given up (another took its place, or the password was changed). Ask for the change again.",
      {},
    ),

  userHasBalance: (accountId: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "USER_HAS_BALANCE",
      `Account ${accountId} holds money, has a hold, or a transfer to it is under way. Empty it first.`,
      { account_id: accountId },
    ),

  tooManyAccounts: (limit: number) =>
    refuse(
      "FAILED_PRECONDITION",
      "USER_HAS_TOO_MANY_ACCOUNTS",
      `The user has more than ${limit} accounts. Close some first.`,
      {
        limit: limit.toString(),
      },
    ),

  ledgerUnavailable: () =>
    new Refusal(
      "UNAVAILABLE",
      "LEDGER_UNAVAILABLE",
      "The ledger cannot be asked at the moment. The user is as before; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),

  passwordTooCommon: (field: string) =>
    malformed(
      [
        {
          field,
          description:
            "is one of the passwords that are tried first, or your own address: take one that nobody would guess",
        },
      ],
      "PASSWORD_TOO_COMMON",
    ),

  /** `resourceId` is what it made first. */
  idempotencyKeyReused: (key: string, resourceId: string) =>
    refuse(
      "ALREADY_EXISTS",
      "IDEMPOTENCY_KEY_REUSED",
      `The idempotency key ${key} was used with another request, for ${resourceId}. Use a new key for a new command.`,
      {
        idempotency_key: key,
        resource_type: resourceId.startsWith("fund_") ? "funding_source" : "user",
        resource_name: resourceId,
      },
    ),

  /** The same, whether nobody has the address or the password is another one. */
  credentialsInvalid: () =>
    refuse("UNAUTHENTICATED", "CREDENTIALS_INVALID", "E-mail address and password do not belong together.", {}),

  /** The password was right. */
  secondFactorRequired: (challengeId: string) =>
    refuse(
      "PERMISSION_DENIED",
      "SECOND_FACTOR_REQUIRED",
      "The password is right; repeat the call with challenge_id and totp_code or recovery_code instead of it.",
      { challenge_id: challengeId },
    ),

  challengeInvalid: () =>
    refuse(
      "UNAUTHENTICATED",
      "CHALLENGE_INVALID",
      "The challenge is answered, over, or no challenge of ours, or the code is wrong. Sign in again with the password.",
      {},
    ),

  totpAlreadyEnabled: () =>
    refuse("FAILED_PRECONDITION", "TOTP_ALREADY_ENABLED", "The second factor is on already; turn it off first.", {}),

  totpNotEnrolled: () =>
    refuse(
      "FAILED_PRECONDITION",
      "TOTP_NOT_ENROLLED",
      "There is no second factor to confirm or to turn off, or the time to confirm it is over: enrol one.",
      {},
    ),

  operatorNeedsSecondFactor: (whatToDo: string) =>
    refuse(
      "FAILED_PRECONDITION",
      "OPERATOR_NEEDS_SECOND_FACTOR",
      `Operators have a second factor at all times: ${whatToDo}`,
      {},
    ),

  secondFactorInvalid: (attemptsLeft: number) =>
    refuse(
      "UNAUTHENTICATED",
      "SECOND_FACTOR_INVALID",
      `The code is wrong. After ${attemptsLeft} more wrong ones no code is taken for a while.`,
      { attempts_left: attemptsLeft.toString() },
    ),

  secondFactorUsed: () =>
    refuse(
      "UNAUTHENTICATED",
      "SECOND_FACTOR_USED",
      "The code was used already; each is good once. Wait for the next.",
      {},
    ),

  secondFactorLocked: (retryAfterMs: number) =>
    new Refusal(
      "RESOURCE_EXHAUSTED",
      "SECOND_FACTOR_LOCKED",
      `Too many wrong codes: none is taken for ${Math.ceil(retryAfterMs / 60_000)} more minutes.`,
      { retryAfterMs },
    ),

  deviceNotFound: (deviceId: string) =>
    refuse("NOT_FOUND", "DEVICE_NOT_FOUND", `There is no device ${deviceId}.`, { device_id: deviceId }),

  fundingSourceNotFound: (fundingSourceId: string) =>
    refuse("NOT_FOUND", "FUNDING_SOURCE_NOT_FOUND", `There is no funding source ${fundingSourceId}.`, {
      funding_source_id: fundingSourceId,
    }),

  fundingSourceExists: (fundingSourceId: string) =>
    refuse(
      "ALREADY_EXISTS",
      "FUNDING_SOURCE_EXISTS",
      `The provider's token is linked already, as ${fundingSourceId}.`,
      {
        resource_type: "funding_source",
        resource_name: fundingSourceId,
      },
    ),

  cardExpired: () => refuse("FAILED_PRECONDITION", "CARD_EXPIRED", "The card's last month is over.", {}),

  tooManyFundingSources: (most: number) =>
    refuse(
      "FAILED_PRECONDITION",
      "TOO_MANY_FUNDING_SOURCES",
      `${most} funding sources are the most; delete one first.`,
      {},
    ),

  refreshTokenInvalid: () =>
    refuse(
      "UNAUTHENTICATED",
      "REFRESH_TOKEN_INVALID",
      "The refresh token is none of ours, its session is over, or it was used before, which ends its session. Sign in again.",
      {},
    ),

  signingKeysUnavailable: () =>
    new Refusal(
      "UNAVAILABLE",
      "SIGNING_KEYS_UNAVAILABLE",
      "The keys that tokens are signed with cannot be read at the moment. Nothing has happened; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),

  tooManyAttempts: (retryAfterMs: number) =>
    new Refusal(
      "RESOURCE_EXHAUSTED",
      "TOO_MANY_ATTEMPTS",
      `Too many attempts. Try again in ${Math.ceil(retryAfterMs / 1000)} s.`,
      { retryAfterMs },
    ),

  /** Nothing has happened: the queue for password hashes is full, or it would take longer than anybody waits. */
  passwordsOverloaded: () =>
    new Refusal(
      "RESOURCE_EXHAUSTED",
      "SIGN_IN_OVERLOADED",
      "Too many passwords are being checked at the moment. Nothing has happened; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),

  shardUnavailable: (shard: number) =>
    new Refusal(
      "UNAVAILABLE",
      "SHARD_UNAVAILABLE",
      `Shard ${shard} does not answer. Nothing has happened; try again.`,
      { metadata: { shard: shard.toString() }, retryAfterMs: RETRY_AFTER_MS },
    ),

  shardContended: (shard: number) =>
    new Refusal(
      "UNAVAILABLE",
      "SHARD_CONTENDED",
      `Another command of shard ${shard} had to go first. Nothing has happened; try again.`,
      { metadata: { shard: shard.toString() }, retryAfterMs: RETRY_AFTER_MS },
    ),

  outcomeUnknown: (shard: number) =>
    new Refusal(
      "DEADLINE_EXCEEDED",
      "OUTCOME_UNKNOWN",
      `Shard ${shard} did not say in time whether the command was carried out. Repeat it with the same idempotency key.`,
      { metadata: { shard: shard.toString() }, retryAfterMs: RETRY_AFTER_MS },
    ),
} as const;
