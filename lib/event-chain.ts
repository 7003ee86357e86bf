import { hash } from "node:crypto";
import { type EventLog, LEDGER_LOG, type StoredEvent } from "#lib/events.ts";

/**
 * The hash chain over a shard's events, which makes them tamper-evident (docs/audit.md says what it proves). Format 1:
 *
 *   event hash  e(n) = SHA-256(text("ledgermesh.event.1"), text(shard), text(number), text(bucket), text(aggregate id),
 *                              text(aggregate version), text(type), text(schema version), text(time), text(payload))
 *   chain hash  c(0) = 32 zero bytes,  c(n) = SHA-256(c(n-1), e(n))
 *
 * text(x) is the length of x in bytes as four bytes, big-endian, then x in UTF-8: no two events have the same encoding.
 * Integers are decimal without leading zeros; the time is RFC 3339 in UTC with milliseconds, as in the published event.
 * The chain hash at a number follows from the events alone, however they were cut into seals.
 *
 * Each log of a shard has a chain of its own. That of the log `identity` has another label, so that no event of one log passes
 * for one of the other.
 */
export const SEAL_FORMAT = 1;
export const HASH_BYTES = 32;
/** c(0): of a shard without events. */
export const EMPTY_CHAIN: Buffer = Buffer.alloc(HASH_BYTES);

const LABELS = { ledger: "ledgermesh.event.1", identity: "ledgermesh.identity.event.1" } as const;
const LENGTH_BYTES = 4;
const FIELDS = 10;
/** UTF-8 takes at most so many bytes for one of JavaScript's UTF-16 units. */
const MAX_BYTES_PER_UNIT = 3;

let scratch = Buffer.allocUnsafeSlow(64 * 1024);
const link = Buffer.allocUnsafeSlow(2 * HASH_BYTES);

/** e(n), 32 bytes. `shard` is the one whose log holds the event. */
export function hashEvent(shard: number, event: StoredEvent, log: EventLog = LEDGER_LOG): Buffer {
  const parts = [
    LABELS[log.name],
    String(shard),
    String(event.number),
    String(event.bucket),
    event.aggregateId,
    String(event.aggregateVersion),
    event.type,
    String(event.schemaVersion),
    event.occurredAt,
    event.payload,
  ];
  let units = 0;
  for (const part of parts) units += part.length;
  const needed = units * MAX_BYTES_PER_UNIT + FIELDS * LENGTH_BYTES;
  if (scratch.length < needed) scratch = Buffer.allocUnsafeSlow(needed);
  let end = 0;
  for (const part of parts) {
    const bytes = scratch.write(part, end + LENGTH_BYTES, "utf8");
    scratch.writeUInt32BE(bytes, end);
    end += LENGTH_BYTES + bytes;
  }
  return sha256(scratch.subarray(0, end));
}

/** c(n) from c(n-1) and e(n). */
export function extendChain(before: Buffer, eventHash: Buffer): Buffer {
  link.set(before, 0);
  link.set(eventHash, HASH_BYTES);
  return sha256(link);
}

/** By way of a string: a buffer of its own for each hash takes longer than the hashing. */
function sha256(bytes: Buffer): Buffer {
  return Buffer.from(hash("sha256", bytes, "binary"), "binary");
}

/** The chain hash after several events, whose hashes stand one behind the other. */
export function extendChainBy(before: Buffer, eventHashes: Buffer): Buffer {
  let chain = before;
  for (let start = 0; start < eventHashes.length; start += HASH_BYTES)
    chain = extendChain(chain, eventHashes.subarray(start, start + HASH_BYTES));
  return chain;
}
