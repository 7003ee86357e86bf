import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureCertificates } from "#infra/local/certificates.ts";
import { type ProcessName, tlsFilesIn } from "#infra/local/tls-files.ts";
import type { TlsFiles } from "#lib/tls.ts";

/** Certificates of a test's own; they go with its process. */
export interface Certificates {
  readonly folder: string;
  readonly files: (name: ProcessName) => TlsFiles;
}

/** Made at that time, by a CA of their own or by that of others. */
export async function makeCertificates(nowMs = Date.now(), sameCaAs?: Certificates): Promise<Certificates> {
  const folder = mkdtempSync(join(tmpdir(), "ledgermesh-certificates-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  if (sameCaAs !== undefined) {
    for (const file of ["ca.crt", "ca.key"]) copyFileSync(join(sameCaAs.folder, file), join(folder, file));
  }
  await ensureCertificates(folder, nowMs);
  return { folder, files: (name) => tlsFilesIn(folder, name) };
}
