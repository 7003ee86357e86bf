import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { ledgermesh } from "#tests/command-line.ts";
import { newKey } from "#tests/stack.ts";

/** What tests of the import share: files, books, and the command's answer. */

export interface ImportJson {
  readonly ok: boolean;
  readonly rows: number;
  readonly posted: number;
  readonly replayed: number;
  readonly bad_rows: readonly { readonly line: number; readonly reason: string }[];
  readonly differences: readonly string[];
  readonly totals: readonly {
    readonly shard: number;
    readonly accounts: number;
    readonly credits_minor_units: string;
    readonly debits_minor_units: string;
    readonly accounts_minor_units: string;
    readonly counterparties_minor_units: string;
  }[];
  readonly accounts: readonly { readonly account: string; readonly account_id: string; readonly shard: number }[];
  readonly counterparties: readonly { readonly name: string; readonly account_id: string }[];
  readonly position: string;
}

export const folder = mkdtempSync(join(tmpdir(), "ledgermesh-import-"));
after(() => rmSync(folder, { recursive: true }));

export function writeFile(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A book that no other run has. */
export const newBook = () => `b${newKey().slice(-12)}`;

export async function importJson(path: string, book: string): Promise<ImportJson & { exitStatus: number | null }> {
  const { exitStatus, stdout, stderr } = await ledgermesh(["import", path, "--book", book, "--json"]);
  assert.ok(stdout.startsWith("{"), `exit status ${exitStatus}: ${stderr}`);
  return { ...(JSON.parse(stdout) as ImportJson), exitStatus };
}
