import { domainToASCII } from "node:url";
import { FIRST_PINNED_BUCKET } from "#lib/ids.ts";

/** RFC 5321, 4.5.3.1. */
const MAX_ADDRESS_BYTES = 254;
const MAX_LOCAL_PART_BYTES = 64;
/** No quoted local parts: nobody has one, and every character of theirs is an injection into something. */
const LOCAL_PART = /^[\p{L}\p{N}!#$%&'*+/=?^_`{|}~-]+(\.[\p{L}\p{N}!#$%&'*+/=?^_`{|}~-]+)*$/u;
const DOMAIN = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/;

/**
 * The one form of an e-mail address that makes it unique: NFKC, lower case, the domain in ASCII (IDNA); undefined when it is no
 * address. Two that differ in case only are one person's.
 */
export function normalizeEmail(text: string): string | undefined {
  if (text.length > MAX_ADDRESS_BYTES) return undefined;
  const folded = text.normalize("NFKC").toLowerCase();
  const at = folded.lastIndexOf("@");
  const [local, domain] = [folded.slice(0, Math.max(at, 0)), domainToASCII(folded.slice(at + 1))];
  if (!LOCAL_PART.test(local) || Buffer.byteLength(local) > MAX_LOCAL_PART_BYTES || !DOMAIN.test(domain))
    return undefined;
  const address = `${local}@${domain}`;
  return Buffer.byteLength(address) <= MAX_ADDRESS_BYTES ? address : undefined;
}

/** Where the directory row of an address lives, and the user who signs up with it. */
export function bucketOfEmailKey(emailKey: Buffer): number {
  return Number(emailKey.readBigUInt64BE(0) % BigInt(FIRST_PINNED_BUCKET));
}
