import { join } from "node:path";
import { secretsFolder } from "#infra/local/folders.ts";
import type { StackName } from "#infra/local/ports.ts";
import type { TlsFiles } from "#lib/tls.ts";

/**
 * The processes that have a certificate in a development stack, each in its own name. A service of ours gets one by being
 * named here. `console`: the command line, the tests and the bench of this machine.
 */
export const processNames = ["gateway", "ledger", "reporting", "identity", "relay", "projector", "console"] as const;
export type ProcessName = (typeof processNames)[number];

export const CA_NAME = "ca";

export const certificatesFolder = (stack: StackName) => join(secretsFolder(stack), "tls");
export const certificateFile = (folder: string, name: ProcessName | typeof CA_NAME) => join(folder, `${name}.crt`);
export const keyFile = (folder: string, name: ProcessName | typeof CA_NAME) => join(folder, `${name}.key`);

/** Where a process of a stack finds its own; they exist once the stack was started. */
export function tlsFiles(stack: StackName, name: ProcessName): TlsFiles {
  return tlsFilesIn(certificatesFolder(stack), name);
}

export function tlsFilesIn(folder: string, name: ProcessName): TlsFiles {
  return {
    caFile: certificateFile(folder, CA_NAME),
    certificateFile: certificateFile(folder, name),
    keyFile: keyFile(folder, name),
  };
}

/** The settings that name them. */
export function tlsEnvironment(files: TlsFiles): Record<string, string> {
  return {
    LEDGERMESH_TLS_CA_FILE: files.caFile,
    LEDGERMESH_TLS_CERTIFICATE_FILE: files.certificateFile,
    LEDGERMESH_TLS_KEY_FILE: files.keyFile,
  };
}
