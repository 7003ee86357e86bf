import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { Gauge } from "prom-client";
import type { Logger } from "#lib/log.ts";

/**
 * What a process proves with who it is, and whom it believes: its certificate, its key, and the CA of all processes. The files
 * may be replaced while it runs; new connections use what they hold then, and those that stand stay.
 */
export interface TlsFiles {
  readonly caFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

export interface Tls {
  /** For a server: what the files held when they last fitted each other. */
  readonly options: () => SecureContextOptions;
  /** For clients: the same, and always the newest. */
  readonly context: SecureContext;
  /** Calls the listener after each change, until the answered function is called. */
  readonly onChange: (listener: () => void) => () => void;
}

const CHECK_INTERVAL_MS = 10_000;

const expiry = new Gauge({
  name: "tls_certificate_expiry_timestamp_seconds",
  help: "When the certificate of this process ends",
});

/**
 * Reads the files, and again every `checkIntervalMs`. Throws when they cannot be used; later on, what cannot be used is logged
 * and changes nothing: two files are never replaced at the same instant.
 */
export function openTls(
  files: TlsFiles,
  { log, checkIntervalMs = CHECK_INTERVAL_MS }: { log?: Logger; checkIntervalMs?: number } = {},
): Tls {
  let current = readFiles(files);
  const context = createSecureContext(current);
  const listeners = new Set<() => void>();
  expiry.set(endOf(current));

  function check(): void {
    try {
      const read = readFiles(files);
      if (isSame(read, current)) return;
      // tls.connect reads it at each connection.
      context.context = createSecureContext(read).context;
      current = read;
      expiry.set(endOf(read));
    } catch (error) {
      log?.warn({ error: String(error), ...files }, "the certificate was replaced by one that cannot be used");
      return;
    }
    log?.info({ certificateFile: files.certificateFile }, "the certificate was replaced");
    for (const listener of listeners) listener();
  }

  setInterval(check, checkIntervalMs).unref();
  return {
    options: () => current,
    context,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

type Read = SecureContextOptions & { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };

function readFiles({ caFile, certificateFile, keyFile }: TlsFiles): Read {
  return {
    ca: readFileSync(caFile),
    cert: readFileSync(certificateFile),
    key: readFileSync(keyFile),
    minVersion: "TLSv1.3",
  };
}

function isSame(one: Read, other: Read): boolean {
  return one.ca.equals(other.ca) && one.cert.equals(other.cert) && one.key.equals(other.key);
}

function endOf({ cert }: Read): number {
  return new X509Certificate(cert).validToDate.getTime() / 1000;
}
