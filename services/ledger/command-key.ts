import { hash } from "node:crypto";
import { Refusal } from "#lib/refusal.ts";
import { plainArray, textArray } from "#lib/sql-arrays.ts";
import type { CommandKey } from "#services/ledger/transfer.ts";

/** Idempotency keys as rows of `ledger.idempotency_keys`, and refusals as they are remembered there. */
export interface RefusalJson {
  readonly status: Refusal["status"];
  readonly reason: string;
  readonly message: string;
  readonly metadata: Record<string, string>;
}

/** Names a key within a shard; what a batch may hold once. */
export function keyText({ key }: { readonly key: CommandKey }): string {
  return `${key.bucket} ${key.caller} ${key.method} ${key.key}`;
}

/** The columns bucket, caller, method and key. */
export function keyColumns(commands: readonly { readonly key: CommandKey }[]): string[] {
  return [
    plainArray(commands.map(({ key }) => key.bucket)),
    textArray(commands.map(({ key }) => key.caller)),
    textArray(commands.map(({ key }) => key.method)),
    textArray(commands.map(({ key }) => key.key)),
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
