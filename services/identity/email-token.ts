import { timingSafeEqual } from "node:crypto";
import { parseId, uuidToId } from "#lib/ids.ts";
import type { IdentityKeys } from "#services/identity/identity-keys.ts";

/**
 * The token that confirms an e-mail address: the change (16 bytes) and a MAC over it (32), as base64url. It follows from the change,
 * so that sending it once more sends the same, and nothing of it has to be stored.
 */
const CHANGE_BYTES = 16;
const TOKEN_BYTES = CHANGE_BYTES + 32;

export function writeEmailToken(keys: IdentityKeys, changeUuid: string): string {
  const change = Buffer.from(changeUuid.replaceAll("-", ""), "hex");
  return Buffer.concat([change, keys.emailTokenMac(change)]).toString("base64url");
}

/** The change that a token confirms; undefined when it is none of ours. */
export function readEmailToken(
  keys: IdentityKeys,
  text: string,
): { readonly changeUuid: string; readonly bucket: number } | undefined {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length !== TOKEN_BYTES || bytes.toString("base64url") !== text) return undefined;
  const change = bytes.subarray(0, CHANGE_BYTES);
  if (!timingSafeEqual(bytes.subarray(CHANGE_BYTES), keys.emailTokenMac(change))) return undefined;
  const parsed = parseId(uuidToId("emch", uuidOf(change)), "emch");
  return parsed && { changeUuid: parsed.uuid, bucket: parsed.bucket };
}

function uuidOf(bytes: Buffer): string {
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
