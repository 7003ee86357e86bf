import "reflect-metadata";
import { createPrivateKey, KeyObject, webcrypto, X509Certificate } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from "@peculiar/x509";
import { ensureCertificates } from "#infra/local/certificates.ts";
import { CA_NAME, certificateFile, keyFile, type ProcessName, tlsFilesIn } from "#infra/local/tls-files.ts";
import type { TlsFiles } from "#lib/tls.ts";

const KEY = { name: "ECDSA", namedCurve: "P-256" };

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

/** A certificate of the same CA for another URI; whoever signs it made a mistake. */
export async function makeCertificateOf({ folder }: Certificates, uri: string): Promise<{ cert: string; key: string }> {
  const ca = new X509Certificate(readFileSync(certificateFile(folder, CA_NAME)));
  const caKey = createPrivateKey(readFileSync(keyFile(folder, CA_NAME)));
  const keys = await webcrypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const made = await X509CertificateGenerator.create({
    subject: "CN=console",
    issuer: ca.subject,
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    publicKey: keys.publicKey,
    signingKey: caKey.toCryptoKey(KEY, false, ["sign"]),
    extensions: [new SubjectAlternativeNameExtension([{ type: "url", value: uri }])],
  });
  const key = KeyObject.from(keys.privateKey).export({ type: "pkcs8", format: "pem" });
  return { cert: made.toString("pem"), key: key.toString() };
}
