import { type CryptoKey, errors, type JWTHeaderParameters, type JWTPayload, jwtVerify } from "jose";
import { accessRefusals } from "#lib/access-refusals.ts";
import { parseId } from "#lib/ids.ts";
import type { Principal } from "#lib/principal.ts";
import { Refusal } from "#lib/refusal.ts";
import { DEVELOPMENT_KEY_ID, type SigningKeys } from "#lib/signing-keys.ts";

/**
 * Access tokens: who sends one is who it says. A JWT (RFC 7519) signed with EdDSA:
 *
 *   header   alg EdDSA, kid; a header that brings a key of its own, or says where to fetch one, is refused
 *   payload  iss, aud `ledgermesh`, sub (`user_…` or `service:NAME`), role (a name of CallerRole), iat, nbf, exp,
 *            sid (`sess_…`) and amr (`pwd`, `otp`) of a person
 *
 * A verified token is remembered by its text until it is over, so that a session's calls are not verified one by one.
 */
export const TOKEN_ISSUER = "https://ledgermesh";
export const TOKEN_AUDIENCE = "ledgermesh";
/** How long a token of a session is good. Revoked sessions are forgotten a little later: no token may live longer. */
export const TOKEN_LIFETIME_SECONDS = 10 * 60;
/** Of a token without a session: of a service, or made by the development key. */
export const SESSIONLESS_TOKEN_LIFETIME_SECONDS = 60 * 60;
/** How far the clock of the issuer may be ahead of ours. */
const NOT_BEFORE_LEEWAY_SECONDS = 30;
const MAX_TOKEN_LENGTH = 4096;
/** Beyond it the one that was verified first is forgotten, and verified again when it comes. */
const MAX_REMEMBERED = 20_000;

const SERVICE_SUBJECT = /^service:([a-z][a-z0-9-]{0,39})$/;
const SESSION_ID = /^sess_[0-9a-z]{26}$/;
/** Headers that name a key, or where it is: a token of ours has none, and they are never followed. */
const FOREIGN_KEY_HEADERS = ["jku", "jwk", "x5u", "x5c"] as const;

export interface AccessTokens {
  /**
   * Whose token it is; at once when it is known already. Throws, or rejects with, a Refusal: `TOKEN_INVALID`,
   * `TOKEN_EXPIRED`, `SIGNING_KEYS_UNKNOWN`.
   */
  principalOf(token: string): Principal | Promise<Principal>;
}

interface Remembered {
  readonly principal: Principal;
  readonly keyId: string;
  readonly key: CryptoKey;
  readonly expiresMs: number;
}

/** Tokens of one issuer; the clock is in ms since 1970. */
export function accessTokens(issuer: string, keys: SigningKeys, nowMs: () => number): AccessTokens {
  const remembered = new Map<string, Remembered>();

  async function verify(token: string): Promise<Principal> {
    if (token.length > MAX_TOKEN_LENGTH) throw accessRefusals.tokenInvalid("it is too long");
    let key: CryptoKey | undefined;
    let keyId = "";
    try {
      const { payload } = await jwtVerify(
        token,
        async (header) => {
          keyId = keyIdOf(header);
          key = await keys.find(keyId);
          return key;
        },
        {
          algorithms: ["EdDSA"],
          issuer,
          audience: TOKEN_AUDIENCE,
          requiredClaims: ["sub", "iat", "nbf", "exp"],
          currentDate: new Date(nowMs()),
          clockTolerance: NOT_BEFORE_LEEWAY_SECONDS,
        },
      );
      const expiresMs = (payload.exp as number) * 1000;
      // The leeway above is for the beginning only.
      if (nowMs() >= expiresMs) throw accessRefusals.tokenExpired();
      const principal = principalIn(payload, keyId);
      if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value as string);
      remembered.set(token, { principal, keyId, key: key as CryptoKey, expiresMs });
      return principal;
    } catch (error) {
      throw toRefusal(error);
    }
  }

  return {
    principalOf(token) {
      const known = remembered.get(token);
      if (known === undefined) return verify(token);
      if (nowMs() < known.expiresMs && keys.get(known.keyId) === known.key) return known.principal;
      remembered.delete(token);
      return verify(token);
    },
  };
}

function keyIdOf(header: JWTHeaderParameters): string {
  const foreign = FOREIGN_KEY_HEADERS.find((name) => header[name] !== undefined);
  if (foreign !== undefined) throw accessRefusals.tokenInvalid(`its header has ${foreign}`);
  if (typeof header.kid !== "string" || header.kid === "") throw accessRefusals.tokenInvalid("its header has no kid");
  return header.kid;
}

function principalIn(payload: JWTPayload, keyId: string): Principal {
  const { sub = "", role, sid, amr, iat = 0, exp = 0 } = payload;
  const lifetimeSeconds = exp - iat;
  const longest = sid === undefined ? SESSIONLESS_TOKEN_LIFETIME_SECONDS : TOKEN_LIFETIME_SECONDS;
  if (!(lifetimeSeconds > 0 && lifetimeSeconds <= longest)) throw accessRefusals.tokenInvalid("it lives too long");

  if (role === "SERVICE") {
    const name = SERVICE_SUBJECT.exec(sub)?.[1];
    if (name === undefined || sid !== undefined) throw accessRefusals.tokenInvalid("its subject is no service");
    // Services speak by their certificates; identity signs for people only.
    if (keyId !== DEVELOPMENT_KEY_ID) throw accessRefusals.tokenInvalid("its key signs for no service");
    return { role, name };
  }
  if (role !== "USER" && role !== "MERCHANT" && role !== "OPERATOR") {
    throw accessRefusals.tokenInvalid("its role is not known");
  }
  if (parseId(sub, "user") === undefined) throw accessRefusals.tokenInvalid("its subject is no user");
  const isSession = typeof sid === "string" && SESSION_ID.test(sid);
  // Only a token that a person has signed in for can be taken back.
  if (!isSession && (sid !== undefined || keyId !== DEVELOPMENT_KEY_ID)) {
    throw accessRefusals.tokenInvalid("it belongs to no session");
  }
  const secondFactor = Array.isArray(amr) && amr.includes("otp");
  return { role, userId: sub, sessionId: isSession ? sid : undefined, secondFactor };
}

function toRefusal(error: unknown): unknown {
  if (error instanceof Refusal) return error;
  if (error instanceof errors.JWTExpired) return accessRefusals.tokenExpired();
  if (error instanceof errors.JWTClaimValidationFailed) {
    return accessRefusals.tokenInvalid(`its ${error.claim} is not as it must be`);
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return accessRefusals.tokenInvalid("its signature does not match");
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return accessRefusals.tokenInvalid("only EdDSA is");
  if (error instanceof errors.JOSEError) return accessRefusals.tokenInvalid("it is no JWT of ours");
  return error;
}
