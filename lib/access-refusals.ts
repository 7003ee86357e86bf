import { Refusal } from "#lib/refusal.ts";

/** Every reason for which a call does not reach its handler because of who calls. */

const RETRY_AFTER_MS = 5_000;

export const accessRefusals = {
  tokenRequired: () =>
    new Refusal(
      "UNAUTHENTICATED",
      "TOKEN_REQUIRED",
      "This needs an access token: sign in and send it as `authorization: Bearer TOKEN`.",
    ),

  /** `why` tells nothing about the keys: it names a part of the token that the caller wrote. */
  tokenInvalid: (why: string) =>
    new Refusal("UNAUTHENTICATED", "TOKEN_INVALID", `The access token is not accepted: ${why}. Sign in again.`),

  tokenExpired: () =>
    new Refusal(
      "UNAUTHENTICATED",
      "TOKEN_EXPIRED",
      "The access token is over. Take a new one with the refresh token, or sign in again.",
    ),

  sessionRevoked: () =>
    new Refusal("UNAUTHENTICATED", "SESSION_REVOKED", "The session of this access token was ended. Sign in again."),

  roleNotAllowed: (method: string, role: string) =>
    new Refusal("PERMISSION_DENIED", "ROLE_NOT_ALLOWED", `${method} is not for the role ${role}.`, {
      metadata: { method, role },
    }),

  peerNotAllowed: (method: string, peer: string) =>
    new Refusal("PERMISSION_DENIED", "PEER_NOT_ALLOWED", `${method} is not for the process ${peer}.`, {
      metadata: { method, peer },
    }),

  secondFactorRequired: (method: string) =>
    new Refusal(
      "PERMISSION_DENIED",
      "SECOND_FACTOR_REQUIRED",
      `${method} needs a session that was opened with a second factor: enrol one, and sign in with it.`,
      { metadata: { method } },
    ),

  /** Fails closed: a token that may belong to a revoked session is not taken. */
  revocationsUnknown: () =>
    new Refusal(
      "UNAVAILABLE",
      "REVOCATIONS_UNKNOWN",
      "Which sessions were ended is not known at the moment, so no session is trusted. Nothing has happened; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),

  signingKeysUnknown: () =>
    new Refusal(
      "UNAVAILABLE",
      "SIGNING_KEYS_UNKNOWN",
      "The key of this access token cannot be looked up at the moment. Nothing has happened; try again.",
      { retryAfterMs: RETRY_AFTER_MS },
    ),
} as const;
