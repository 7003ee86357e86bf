import { readFileSync } from "node:fs";
import type { TlsFiles } from "#lib/tls.ts";

/** Reading settings from an environment; only the config.ts of a service calls these, with `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The text of a variable. Throws an error for people when it is absent or empty. */
export function requiredText(environment: Environment, name: string): string {
  const value = environment[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set`);
  return value;
}

/** A TCP port. Throws an error for people when it is absent or no port. */
export function requiredPort(environment: Environment, name: string): number {
  const text = requiredText(environment, name);
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new Error(`${name} is "${text}": not a port (1..65535)`);
  return port;
}

/** A comma-separated list, without empty parts. Throws an error for people when it is absent. */
export function requiredList(environment: Environment, name: string): string[] {
  return requiredText(environment, name)
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** The bytes of the file that a variable names: how secrets are handed over. */
export function requiredSecretFile(environment: Environment, name: string): Buffer {
  return readFileSync(requiredText(environment, name));
}

/** Where the certificate of the process is. */
export function requiredTlsFiles(environment: Environment): TlsFiles {
  return {
    caFile: requiredText(environment, "LEDGERMESH_TLS_CA_FILE"),
    certificateFile: requiredText(environment, "LEDGERMESH_TLS_CERTIFICATE_FILE"),
    keyFile: requiredText(environment, "LEDGERMESH_TLS_KEY_FILE"),
  };
}

const PLAINTEXT = "LEDGERMESH_GRPC_PLAINTEXT";

/**
 * Whether LEDGERMESH_GRPC_PLAINTEXT is `for-measuring`: a server without TLS that asks nobody who they are, so that what both
 * cost can be told. Throws an error for people where that is set in anything but a development system.
 */
export function isPlaintextForMeasuring(environment: Environment): boolean {
  const plaintext = environment[PLAINTEXT] ?? "";
  if (plaintext === "") return false;
  if (plaintext !== "for-measuring")
    throw new Error(`${PLAINTEXT} is "${plaintext}": only "for-measuring" is possible`);
  // What is not said to be a development system is taken for the real one.
  const name = environment.LEDGERMESH_ENVIRONMENT ?? "production";
  if (name === "development") return true;
  throw new Error(`${PLAINTEXT} is set, and LEDGERMESH_ENVIRONMENT is ${name}: anybody could move money. Take it away`);
}
