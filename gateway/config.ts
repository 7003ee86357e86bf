import { type Environment, requiredPort, requiredText } from "#lib/environment.ts";

/** A host and port that Envoy connects to. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface GatewayConfig {
  readonly port: number;
  readonly adminPort: number;
  readonly ledger: Address;
  readonly reporting: Address;
  readonly identity: Address;
}

/** Throws an error for people when a variable is absent or malformed. */
export function readConfig(environment: Environment = process.env): GatewayConfig {
  return {
    port: requiredPort(environment, "LEDGERMESH_GATEWAY_PORT"),
    adminPort: requiredPort(environment, "LEDGERMESH_GATEWAY_ADMIN_PORT"),
    ledger: requiredAddress(environment, "LEDGERMESH_LEDGER_ADDRESS"),
    reporting: requiredAddress(environment, "LEDGERMESH_REPORTING_ADDRESS"),
    identity: requiredAddress(environment, "LEDGERMESH_IDENTITY_ADDRESS"),
  };
}

function requiredAddress(environment: Environment, name: string): Address {
  const text = requiredText(environment, name);
  const match = /^([A-Za-z0-9.-]+):([0-9]{1,5})$/.exec(text);
  const [, host, port] = match ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new Error(`${name} is "${text}": not host:port`);
  }
  return { host, port: Number(port) };
}
