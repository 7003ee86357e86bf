import { hash } from "node:crypto";
import { Refusal } from "#lib/refusal.ts";
import { bytesArray, plainArray, textArray } from "#lib/sql-arrays.ts";
import type { CommandKey } from "#services/ledger/command.ts";

/** Idempotency keys as rows of `ledger.idempotency_keys`, and refusals as they are remembered there. */
export interface RefusalJson {
  readonly status: Refusal["status"];
  readonly reason: string;
  readonly message: string;
  readonly metadata: Record<string, string>;
}

/** A key for a command that makes or changes the resource. */
export function commandKey(key: Omit<CommandKey, "text">): CommandKey {
  return { ...key, text: keyText(key.bucket, key.caller, key.method, key.key) };
}

/** Names a key within a shard. */
export function keyText(bucket: number, caller: string, method: string, key: string): string {
  return `${bucket} ${caller} ${method} ${key}`;
}

/** The columns bucket, caller, method and key. */
export function keyColumns(keys: readonly CommandKey[]): string[] {
  return [
    plainArray(keys.map(({ bucket }) => bucket)),
    textArray(keys.map(({ caller }) => caller)),
    textArray(keys.map(({ method }) => method)),
    textArray(keys.map(({ key }) => key)),
  ];
}

/** The columns of keys that are to be taken. */
export function claimColumns(keys: readonly CommandKey[]): string[] {
  return [
    ...keyColumns(keys),
    bytesArray(keys.map(({ fingerprint }) => fingerprint)),
    plainArray(keys.map(({ resourceUuid }) => resourceUuid)),
  ];
}

/** A refusal as it is remembered. */
export function encodeRefusal(refusal: Refusal): string {
  const { status, reason, message, metadata } = refusal;
  return JSON.stringify({ status, reason, message, metadata } satisfies RefusalJson);
}

/** A remembered refusal. */
export function decodeRefusal({ status, reason, message, metadata }: RefusalJson): Refusal {
  return new Refusal(status, reason, message, { metadata });
}

/** SHA-256 of a value's JSON; the caller brings it into one canonical order. */
export function canonicalHash(value: unknown): Buffer {
  return hash("sha256", JSON.stringify(value), "buffer");
}
