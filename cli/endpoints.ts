import { accessTokenSetting, tlsSettings } from "#cli/config.ts";
import { developmentToken } from "#infra/local/development-key.ts";
import { Problem } from "#infra/local/problem.ts";
import { stackPorts } from "#infra/local/stack-ports.ts";
import { tlsFiles } from "#infra/local/tls-files.ts";
import { openTls, type Tls } from "#lib/tls.ts";

/** Where the commands find the local stack when nothing else is said. Throws a Problem when the environment names no port. */
const HOST = "127.0.0.1";

/** host:port of the ledger. */
export function defaultLedger(): string {
  return `${HOST}:${stackPorts("dev").ledger}`;
}

/** host:port of identity. */
export function defaultIdentity(): string {
  return `${HOST}:${stackPorts("dev").identity}`;
}

/** The REST base URL. */
export function defaultGateway(): string {
  return `http://${HOST}:${stackPorts("dev").gateway}`;
}

/** The token that the commands call the gateway with. Throws a Problem when there is none. */
export async function accessToken(): Promise<string> {
  return accessTokenSetting() ?? (await developmentToken("dev", "service", "service:console")).token;
}

/** The certificate that the commands call with. Throws a Problem when there is none. */
export function openCertificate(): Tls {
  try {
    return openTls(tlsSettings() ?? tlsFiles("dev", "console"));
  } catch (error) {
    throw new Problem(
      `The certificate to call with cannot be used: ${error instanceof Error ? error.message : error}. ` +
        "Mend it: make start (or name another: LEDGERMESH_TLS_CA_FILE, LEDGERMESH_TLS_CERTIFICATE_FILE, LEDGERMESH_TLS_KEY_FILE)",
    );
  }
}
