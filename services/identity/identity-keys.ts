import { createHmac, hkdfSync } from "node:crypto";

/** Keyed hashes, each purpose with a key of its own, derived from one secret (HKDF with SHA-256, RFC 5869). */
export interface IdentityKeys {
  /** The key of a normalised e-mail address in the directory, 32 bytes. Its bucket follows from it. */
  emailKey(normalizedEmail: string): Buffer;
  /** The fingerprint of a request, in one canonical form, 32 bytes. Keyed: the request may hold a password. */
  fingerprint(request: unknown): Buffer;
  /** Of a recovery code, 32 bytes. */
  recoveryCodeHash(userId: string, code: string): Buffer;
  /** Shows that a refresh token is one of ours, 32 bytes. */
  refreshMac(body: Buffer): Buffer;
  /** The secret of a refresh token that follows from the one before, 32 bytes. */
  nextRefreshSecret(from: Buffer): Buffer;
  /** Shows that a token for a change of e-mail was sent by us, 32 bytes. */
  emailTokenMac(change: Buffer): Buffer;
}

const KEY_BYTES = 32;
const MIN_SECRET_BYTES = 32;

/** Throws when the secret is too short to be one. */
export function identityKeys(secret: Buffer): IdentityKeys {
  if (secret.length < MIN_SECRET_BYTES) throw new Error(`the identity key needs ${MIN_SECRET_BYTES} bytes at least`);
  const derive = (purpose: string) => Buffer.from(hkdfSync("sha256", secret, "", `ledgermesh ${purpose}`, KEY_BYTES));
  const [email, fingerprint] = [derive("e-mail address"), derive("request fingerprint")];
  const [refresh, nextRefresh] = [derive("refresh token"), derive("next refresh token")];
  const emailToken = derive("e-mail token");
  const recovery = derive("recovery code");
  const mac = (key: Buffer, text: string | Buffer) => createHmac("sha256", key).update(text).digest();
  return {
    emailKey: (normalizedEmail) => mac(email, normalizedEmail),
    fingerprint: (request) => mac(fingerprint, JSON.stringify(request)),
    recoveryCodeHash: (userId, code) => mac(recovery, `${userId} ${code}`),
    refreshMac: (body) => mac(refresh, body),
    emailTokenMac: (change) => mac(emailToken, change),
    nextRefreshSecret: (from) => mac(nextRefresh, from),
  };
}
