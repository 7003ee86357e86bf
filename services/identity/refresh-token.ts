import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { idToUuid, parseId, uuidToId } from "#lib/ids.ts";
import type { IdentityKeys } from "#services/identity/identity-keys.ts";

/**
 * Refresh tokens. A session has one that is good at a time; each use puts the next in its place. Shape, as base64url:
 *
 *   session (16 bytes) | number of the token within the session (4) | secret (32) | MAC over the three (16)
 *
 * Only the SHA-256 of the newest secret is stored. The MAC shows that an older token was once a real one, without keeping the
 * hashes of all of them: only then it tells of a theft, and a made-up one ends nobody's session.
 */
export interface RefreshToken {
  /** `sess_…` */
  readonly sessionId: string;
  /** 1, 2, 3 … */
  readonly number: number;
  readonly secret: Buffer;
}

const SESSION_BYTES = 16;
const NUMBER_BYTES = 4;
const SECRET_BYTES = 32;
const MAC_BYTES = 16;
const BODY_BYTES = SESSION_BYTES + NUMBER_BYTES + SECRET_BYTES;

/** The first token of a session. */
export function firstRefreshToken(sessionId: string): RefreshToken {
  return { sessionId, number: 1, secret: randomBytes(SECRET_BYTES) };
}

/**
 * The one that takes its place. With an idempotency key it follows from the token, the key and our secret, so that a call whose
 * answer was lost can be repeated.
 */
export function nextRefreshToken(
  keys: IdentityKeys,
  token: RefreshToken,
  idempotencyKey: string | undefined,
): RefreshToken {
  const secret =
    idempotencyKey === undefined
      ? randomBytes(SECRET_BYTES)
      : keys.nextRefreshSecret(Buffer.concat([bodyOf(token), Buffer.from(idempotencyKey)]));
  return { sessionId: token.sessionId, number: token.number + 1, secret };
}

export function writeRefreshToken(keys: IdentityKeys, token: RefreshToken): string {
  const body = bodyOf(token);
  return Buffer.concat([body, keys.refreshMac(body).subarray(0, MAC_BYTES)]).toString("base64url");
}

/** Undefined when it is none of ours. */
export function readRefreshToken(keys: IdentityKeys, text: string): RefreshToken | undefined {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length !== BODY_BYTES + MAC_BYTES || bytes.toString("base64url") !== text) return undefined;
  const body = bytes.subarray(0, BODY_BYTES);
  if (!timingSafeEqual(bytes.subarray(BODY_BYTES), keys.refreshMac(body).subarray(0, MAC_BYTES))) return undefined;
  const hex = body.toString("hex", 0, SESSION_BYTES);
  const uuid = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  const sessionId = uuidToId("sess", uuid);
  if (parseId(sessionId, "sess") === undefined) return undefined;
  return { sessionId, number: body.readUInt32BE(SESSION_BYTES), secret: body.subarray(SESSION_BYTES + NUMBER_BYTES) };
}

/** What is stored of a token. */
export function refreshHash({ secret }: RefreshToken): Buffer {
  return hash("sha256", secret, "buffer");
}

function bodyOf({ sessionId, number, secret }: RefreshToken): Buffer {
  const numberBytes = Buffer.alloc(NUMBER_BYTES);
  numberBytes.writeUInt32BE(number);
  return Buffer.concat([Buffer.from(idToUuid(sessionId).replaceAll("-", ""), "hex"), numberBytes, secret]);
}
