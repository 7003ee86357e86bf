import "reflect-metadata";
import { createPrivateKey, KeyObject, webcrypto, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { CA_NAME, certificateFile, keyFile, type ProcessName, processNames } from "#infra/local/tls-files.ts";
import { nameOfPeer, peerUri } from "#lib/peer-name.ts";

/**
 * The certificates of a development stack: a CA of its own, and one certificate for each process, by which the processes
 * know each other. Production has its own from cert-manager (k8s/README.md).
 *
 * A certificate:  absent, of another CA, about to end, or not fitting its key -> made anew
 * The CA:         absent, about to end, or not fitting its key                -> made anew, and with it every certificate
 */

const DAY_MS = 86_400_000;
const CERTIFICATE_DAYS = 90;
const RENEWED_WITHIN_DAYS = 30;
const CA_DAYS = 3_650;
/** Clocks of other machines may be behind. */
const BACKDATED_MS = 3_600_000;
const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_FOLDER_MODE = 0o700;
const KEY = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };

/** Makes what is missing or due, and leaves the rest as it is. */
export async function ensureCertificates(folder: string, nowMs = Date.now()): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  const ca = (await readAuthority(folder, nowMs)) ?? (await makeAuthority(folder, nowMs));
  for (const name of processNames) {
    if (!isGood(folder, name, ca.certificate, nowMs)) await makeCertificate(folder, name, ca, nowMs);
  }
}

interface Authority {
  readonly certificate: X509Certificate;
  readonly key: webcrypto.CryptoKey;
}

async function readAuthority(folder: string, nowMs: number): Promise<Authority | undefined> {
  const found = readPair(folder, CA_NAME);
  // Nothing that it signs may outlive it.
  if (found === undefined || endsWithin(found.certificate, CERTIFICATE_DAYS, nowMs)) return undefined;
  return { certificate: found.certificate, key: found.key.toCryptoKey(KEY, false, ["sign"]) };
}

async function makeAuthority(folder: string, nowMs: number): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const made = await X509CertificateGenerator.createSelfSigned({
    name: "CN=Ledgermesh development CA",
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + CA_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  writePair(folder, CA_NAME, made.toString("pem"), keys.privateKey);
  return { certificate: new X509Certificate(made.toString("pem")), key: keys.privateKey };
}

async function makeCertificate(folder: string, name: ProcessName, ca: Authority, nowMs: number): Promise<void> {
  const keys = await webcrypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const caKey = await ca.certificate.publicKey.toCryptoKey(KEY, true, ["verify"]);
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    // Every process may be called, and call others.
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    // Who it is; where it may be met is for clients that know of nothing else (ghz).
    new SubjectAlternativeNameExtension([
      { type: "url", value: peerUri(name) },
      { type: "ip", value: "127.0.0.1" },
      { type: "dns", value: "localhost" },
    ]),
    await SubjectKeyIdentifierExtension.create(keys.publicKey),
    await AuthorityKeyIdentifierExtension.create(caKey),
  ];
  const made = await X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: ca.certificate.subject,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + CERTIFICATE_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE,
    publicKey: keys.publicKey,
    signingKey: ca.key,
    extensions,
  });
  writePair(folder, name, made.toString("pem"), keys.privateKey);
}

function isGood(folder: string, name: ProcessName, ca: X509Certificate, nowMs: number): boolean {
  const certificate = readPair(folder, name)?.certificate;
  if (certificate === undefined) return false;
  return (
    certificate.checkIssued(ca) &&
    certificate.verify(ca.publicKey) &&
    nameOfPeer(certificate.subjectAltName) === name &&
    !endsWithin(certificate, RENEWED_WITHIN_DAYS, nowMs)
  );
}

/** Undefined when something is absent, unreadable or does not fit: a start that was cut off is mended by the next one. */
function readPair(
  folder: string,
  name: ProcessName | typeof CA_NAME,
): { certificate: X509Certificate; key: KeyObject } | undefined {
  try {
    const certificate = new X509Certificate(readFileSync(certificateFile(folder, name)));
    const key = createPrivateKey(readFileSync(keyFile(folder, name)));
    return certificate.checkPrivateKey(key) ? { certificate, key } : undefined;
  } catch {
    return undefined;
  }
}

function endsWithin(certificate: X509Certificate, days: number, nowMs: number): boolean {
  return certificate.validToDate.getTime() < nowMs + days * DAY_MS;
}

function writePair(
  folder: string,
  name: ProcessName | typeof CA_NAME,
  certificate: string,
  key: webcrypto.CryptoKey,
): void {
  const pem = KeyObject.from(key).export({ type: "pkcs8", format: "pem" });
  write(keyFile(folder, name), pem.toString());
  // With an end of line, so that files can be put one behind the other.
  write(certificateFile(folder, name), `${certificate}\n`);
}

/** Whole or not at all. */
function write(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: PRIVATE_FILE_MODE });
  renameSync(`${file}.new`, file);
}
