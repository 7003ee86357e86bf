import { randomFillSync } from "node:crypto";
import { fromUUID, parseTypeId, type TypeId, toUUID } from "typeid-js";

/**
 * Ids: a UUIDv7 (RFC 9562) whose 12 `rand_a` bits are the bucket, shown as a TypeID (`acct_01h…`).
 * They sort by time, and whoever holds an id knows the bucket, and so the shard, without asking.
 *
 * Postgres stores the UUID; the prefix says which table it is from.
 */

export const BUCKET_COUNT = 4096;
/** Buckets from here on are pinned to a shard for ever: system accounts live there. Below it, users. */
export const FIRST_PINNED_BUCKET = 3840;

export type IdPrefix =
  | "acct"
  | "xfer"
  | "hold"
  | "quot"
  | "user"
  | "sess"
  | "logn"
  | "chal"
  | "emch"
  | "mail"
  | "dev"
  | "fund"
  | "sgnl";

/** Makes ids; a part of the context, so that tests decide time. `bucket` is 0..4095. */
export type NewId = (prefix: IdPrefix, bucket: number) => string;

const RANDOM_POOL_BYTES = 8 * 1024;

/** A generator of ids from a clock in ms since 1970. */
export function idGenerator(nowMs: () => number): NewId {
  const pool = Buffer.alloc(RANDOM_POOL_BYTES);
  let used = RANDOM_POOL_BYTES;
  return (prefix, bucket) => {
    if (used === RANDOM_POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    const time = nowMs().toString(16).padStart(12, "0");
    const random = pool.toString("hex", used, used + 8);
    used += 8;
    // The variant bits 10, then 62 random bits.
    const variant = ((Number.parseInt(random[0] as string, 16) & 0x3) | 0x8).toString(16);
    return uuidToId(
      prefix,
      `${time.slice(0, 8)}-${time.slice(8)}-7${bucket.toString(16).padStart(3, "0")}-${variant}${random.slice(1, 4)}-${random.slice(4)}`,
    );
  };
}

/** The UUID inside an id, in the text form that Postgres takes. The id must have been parsed before. */
export function idToUuid(id: string): string {
  return toUUID(id as TypeId<string>);
}

/** The id of a UUID from the table that belongs to `prefix`. */
export function uuidToId(prefix: IdPrefix, uuid: string): string {
  return fromUUID(uuid, prefix);
}

/** The bucket inside a UUID, 0..4095. */
export function bucketOfUuid(uuid: string): number {
  return Number.parseInt(uuid.slice(15, 18), 16);
}

/** The time inside a UUIDv7, in ms since 1970. */
export function timeMsOfUuid(uuid: string): number {
  return Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16);
}

/**
 * What an id holds, or undefined when it is no id of the kind wanted: another prefix, another alphabet, no UUIDv7.
 * Without `prefix`, any prefix will do.
 */
export function parseId(id: string, prefix?: IdPrefix): { uuid: string; bucket: number } | undefined {
  let uuid: string;
  try {
    const parsed = parseTypeId(id as TypeId<string>);
    if (prefix === undefined ? parsed.prefix === "" : parsed.prefix !== prefix) return undefined;
    // Beyond 7 the suffix would not fit 128 bits, and would be a second name of another id.
    if (parsed.suffix.charAt(0) > "7") return undefined;
    uuid = toUUID(id as TypeId<string>);
  } catch {
    return undefined;
  }
  const version = uuid[14];
  const variant = uuid[19];
  if (version !== "7" || variant === undefined || !"89ab".includes(variant)) return undefined;
  return { uuid, bucket: bucketOfUuid(uuid) };
}
