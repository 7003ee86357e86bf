import { stackPorts } from "#infra/local/stack-ports.ts";

/** Where the commands find the local stack when nothing else is said. Throws a Problem when the environment names no port. */
const HOST = "127.0.0.1";

/** host:port of the ledger. */
export function defaultLedger(): string {
  return `${HOST}:${stackPorts("dev").ledger}`;
}

/** The REST base URL. */
export function defaultGateway(): string {
  return `http://${HOST}:${stackPorts("dev").gateway}`;
}
