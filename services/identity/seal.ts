import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { Defect } from "#lib/refusal.ts";

/**
 * Secrets that have to be read again, sealed for the database: AES-256-GCM under a key derived from the key-encryption key.
 * Shape: nonce (12 bytes), tag (16 bytes), ciphertext. `name` is bound to it: a sealed secret is of no use in another row.
 */
export interface Seal {
  seal(name: string, secret: Buffer): Buffer;
  /** Throws when it was altered, or is another's. */
  open(name: string, sealed: Buffer): Buffer;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const MIN_SECRET_BYTES = 32;
const CIPHER = "aes-256-gcm";

/** Sealing for one purpose. Throws when the key-encryption key is too short to be one. */
export function sealFor(purpose: string, keyEncryptionKey: Buffer): Seal {
  if (keyEncryptionKey.length < MIN_SECRET_BYTES) {
    throw new Error(`the key-encryption key needs ${MIN_SECRET_BYTES} bytes at least`);
  }
  const key = Buffer.from(hkdfSync("sha256", keyEncryptionKey, "", `ledgermesh seal ${purpose}`, KEY_BYTES));
  return {
    seal(name, secret) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, key, nonce).setAAD(Buffer.from(name));
      const text = Buffer.concat([cipher.update(secret), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), text]);
    },
    open(name, sealed) {
      const [nonce, tag] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES)];
      try {
        const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
        decipher.setAAD(Buffer.from(name)).setAuthTag(tag);
        return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
      } catch {
        throw new Defect(`what is sealed as ${name} cannot be opened: another key-encryption key, or it was altered`);
      }
    },
  };
}
