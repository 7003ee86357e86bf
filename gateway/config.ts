import { DEFAULT_RATE_LIMITS, type RateLimit, type RateLimits } from "#gateway/rate-limits.ts";
import type { TokenSettings } from "#gateway/token-check.ts";
import { accessSettings } from "#lib/access-settings.ts";
import { type Environment, requiredPort, requiredText, requiredTlsFiles } from "#lib/environment.ts";
import type { TlsFiles } from "#lib/tls.ts";

/** A host and port that Envoy connects to, or listens on. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Where TLS is spoken, and with which certificate. */
export interface TlsListener {
  readonly address: Address;
  /** Paths of PEM files: the chain, and its private key. */
  readonly certificateFile: string;
  readonly keyFile: string;
}

export interface GatewayConfig {
  /** Plain HTTP, on loopback only; never in production. */
  readonly port: number | undefined;
  readonly tls: TlsListener | undefined;
  readonly adminPort: number;
  /** On loopback: where Envoy asks itself for identity's public keys. */
  readonly keysPort: number;
  /** How tokens are checked. Undefined, which no setting makes it: not at all, for tests of everything else. */
  readonly tokens: TokenSettings | undefined;
  /** Proxies of ours in front of the gateway that write x-forwarded-for: a client's address is that many from its right. */
  readonly trustedHops: number;
  /** Origins whose pages may call. */
  readonly allowedOrigins: readonly string[];
  readonly rateLimits: RateLimits;
  readonly ledger: Address;
  readonly reporting: Address;
  readonly identity: Address;
  /** The gateway's own certificate, towards the services. */
  readonly upstreamTls: TlsFiles;
  /** The script of the reference page; without it the gateway serves none. */
  readonly referenceScriptFile: string | undefined;
}

const MAX_TRUSTED_HOPS = 8;

/** Throws an error for people when a variable is absent or malformed. */
export function readConfig(environment: Environment = process.env): GatewayConfig {
  const port = optional(environment, "LEDGERMESH_GATEWAY_PORT", requiredPort);
  if (port !== undefined) onlyInDevelopment(environment, "LEDGERMESH_GATEWAY_PORT", "plain HTTP is not for strangers");
  const tls = readTls(environment);
  if (port === undefined && tls === undefined) throw new Error("LEDGERMESH_GATEWAY_TLS_PORT is not set");
  return {
    port,
    tls,
    adminPort: requiredPort(environment, "LEDGERMESH_GATEWAY_ADMIN_PORT"),
    keysPort: requiredPort(environment, "LEDGERMESH_GATEWAY_KEYS_PORT"),
    tokens: accessSettings(environment),
    trustedHops: optional(environment, "LEDGERMESH_GATEWAY_TRUSTED_HOPS", readTrustedHops) ?? 0,
    allowedOrigins: optional(environment, "LEDGERMESH_GATEWAY_ALLOWED_ORIGINS", readOrigins) ?? [],
    rateLimits: {
      sign_in: optional(environment, "LEDGERMESH_GATEWAY_SIGN_IN_LIMIT", readLimit) ?? DEFAULT_RATE_LIMITS.sign_in,
      command: optional(environment, "LEDGERMESH_GATEWAY_COMMAND_LIMIT", readLimit) ?? DEFAULT_RATE_LIMITS.command,
      query: optional(environment, "LEDGERMESH_GATEWAY_QUERY_LIMIT", readLimit) ?? DEFAULT_RATE_LIMITS.query,
    },
    ledger: requiredAddress(environment, "LEDGERMESH_LEDGER_ADDRESS"),
    reporting: requiredAddress(environment, "LEDGERMESH_REPORTING_ADDRESS"),
    identity: requiredAddress(environment, "LEDGERMESH_IDENTITY_ADDRESS"),
    upstreamTls: requiredTlsFiles(environment),
    referenceScriptFile: optional(environment, "LEDGERMESH_GATEWAY_REFERENCE_SCRIPT_FILE", requiredText),
  };
}

/** What a reader makes of a variable; undefined when it is absent or empty. */
function optional<Value>(
  environment: Environment,
  name: string,
  read: (environment: Environment, name: string) => Value,
): Value | undefined {
  const text = environment[name];
  return text === undefined || text === "" ? undefined : read(environment, name);
}

/** What is not said to be a development system is taken for the real one. */
function onlyInDevelopment(environment: Environment, name: string, why: string): void {
  const kind = environment.LEDGERMESH_ENVIRONMENT ?? "production";
  if (kind !== "development") throw new Error(`${name} is set, and LEDGERMESH_ENVIRONMENT is ${kind}: ${why}`);
}

function readTls(environment: Environment): TlsListener | undefined {
  const port = optional(environment, "LEDGERMESH_GATEWAY_TLS_PORT", requiredPort);
  if (port === undefined) return undefined;
  return {
    address: { host: optional(environment, "LEDGERMESH_GATEWAY_TLS_HOST", requiredText) ?? "127.0.0.1", port },
    certificateFile: requiredText(environment, "LEDGERMESH_GATEWAY_CERTIFICATE_FILE"),
    keyFile: requiredText(environment, "LEDGERMESH_GATEWAY_KEY_FILE"),
  };
}

function readTrustedHops(environment: Environment, name: string): number {
  const text = requiredText(environment, name);
  const hops = Number(text);
  if (!/^\d+$/.test(text) || hops > MAX_TRUSTED_HOPS) {
    throw new Error(`${name} is "${text}": not a number from 0 to ${MAX_TRUSTED_HOPS}`);
  }
  return hops;
}

/** Exact origins only: a pattern, or `*`, would sooner or later admit a stranger. */
function readOrigins(environment: Environment, name: string): string[] {
  const origins = requiredText(environment, name)
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  for (const origin of origins) {
    if (URL.parse(origin)?.origin !== origin || !/^https?:/.test(origin)) {
      throw new Error(`${name} has "${origin}": not an origin such as https://pay.example.com`);
    }
  }
  return origins;
}

/** `CALLS/SECONDS` */
function readLimit(environment: Environment, name: string): RateLimit {
  const text = requiredText(environment, name);
  const [, calls, windowSeconds] = /^([1-9]\d{0,8})\/([1-9]\d{0,4})$/.exec(text) ?? [];
  if (calls === undefined || windowSeconds === undefined) {
    throw new Error(`${name} is "${text}": not calls/seconds, such as 30/60`);
  }
  return { calls: Number(calls), windowSeconds: Number(windowSeconds) };
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
