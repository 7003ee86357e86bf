import { developmentKeyFile } from "#infra/local/development-key.ts";
import { secretsFolder } from "#infra/local/folders.ts";
import { referenceScript } from "#infra/local/paths.mjs";
import { type PortName, type Ports, type StackName, shardPortsOf } from "#infra/local/ports.ts";
import {
  identityKeyFile,
  keyEncryptionKeyFile,
  natsPassword,
  pageTokenKeyFile,
  type Role,
  rolePassword,
  superuserPassword,
} from "#infra/local/secrets.ts";
import { stackPorts } from "#infra/local/stack-ports.ts";
import { tlsEnvironment, tlsFiles } from "#infra/local/tls-files.ts";
import type { TlsFiles } from "#lib/tls.ts";

export const DATABASE = "ledgermesh";
export const SUPERUSER_ROLE = "postgres";
export const NATS_USER = "ledgermesh";
/** Everything binds and connects to loopback only. */
export const HOST = "127.0.0.1";

export const services = ["ledger", "relay", "projector", "reporting", "identity"] as const satisfies readonly Role[];
export type ServiceName = (typeof services)[number];

const postgresUrl = (role: string, password: string, port: number) =>
  `postgres://${role}:${password}@${HOST}:${port}/${DATABASE}`;

/** The connection strings of all shards for a role of ours, in shard order. */
export function shardUrls(stack: StackName, role: Role, ports: Ports = stackPorts(stack)): string[] {
  return shardPortsOf(stack).map((name) => postgresUrl(role, rolePassword(stack, role), ports[name]));
}

/** The same for Postgres' superuser: migrations, tests and benches. */
export function superuserShardUrls(stack: StackName, ports: Ports = stackPorts(stack)): string[] {
  return shardPortsOf(stack).map((name) => postgresUrl(SUPERUSER_ROLE, superuserPassword(stack), ports[name]));
}

export interface Endpoints {
  /** The REST base URL. */
  readonly gateway: string;
  /** The same over TLS, by a certificate of the stack's CA. */
  readonly gatewayTls: string;
  readonly gatewayAdmin: string;
  /** host:port of the gRPC servers. */
  readonly ledger: string;
  readonly reporting: string;
  readonly identity: string;
  /** The certificate `console`: who calls the gRPC servers from this machine. */
  readonly tls: TlsFiles;
  /** Base URLs of `/healthz` and `/metrics`. */
  readonly health: Readonly<Record<ServiceName, string>>;
  /** Superuser connection strings, in shard order. */
  readonly shards: readonly string[];
  readonly nats: string;
  readonly natsMonitor: string;
  readonly elasticsearch: string;
  /** Base URL of the messages that the local mail server has taken. */
  readonly mail: string;
}

/** Where the parts of a stack are reached. Throws a Problem when the stack was never started (no secrets yet). */
export function endpoints(stack: StackName): Endpoints {
  const ports = stackPorts(stack);
  const http = (port: PortName) => `http://${HOST}:${ports[port]}`;
  return {
    gateway: http("gateway"),
    gatewayTls: `https://${HOST}:${ports.gateway_tls}`,
    gatewayAdmin: http("gateway_admin"),
    ledger: `${HOST}:${ports.ledger}`,
    reporting: `${HOST}:${ports.reporting}`,
    identity: `${HOST}:${ports.identity}`,
    tls: tlsFiles(stack, "console"),
    health: {
      ledger: http("ledger_health"),
      relay: http("relay_health"),
      projector: http("projector_health"),
      reporting: http("reporting_health"),
      identity: http("identity_health"),
    },
    shards: superuserShardUrls(stack, ports),
    nats: natsUrl(stack, ports),
    natsMonitor: http("nats_monitor"),
    elasticsearch: http("elasticsearch"),
    mail: http("mail_http"),
  };
}

const natsUrl = (stack: StackName, ports: Ports) => `nats://${NATS_USER}:${natsPassword(stack)}@${HOST}:${ports.nats}`;

/** The settings that a service of the stack is given: the whole contract between the launcher and a service. */
export function stackEnvironment(stack: StackName, service: ServiceName): Record<string, string> {
  const ports = stackPorts(stack);
  const shared = {
    LEDGERMESH_SHARDS: shardUrls(stack, service, ports).join(","),
    LEDGERMESH_NATS_URL: natsUrl(stack, ports),
    LEDGERMESH_ELASTICSEARCH_URL: `http://${HOST}:${ports.elasticsearch}`,
    LEDGERMESH_HEALTH_PORT: String(ports[`${service}_health`]),
    ...tlsEnvironment(tlsFiles(stack, service)),
  };
  if (service !== "ledger" && service !== "reporting" && service !== "identity") return shared;
  const served = {
    ...shared,
    LEDGERMESH_GRPC_PORT: String(ports[service]),
    LEDGERMESH_IDENTITY_ADDRESS: `${HOST}:${ports.identity}`,
    LEDGERMESH_ENVIRONMENT: "development",
    LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE: developmentKeyFile(stack),
    LEDGERMESH_PAGE_TOKEN_KEY_FILE: pageTokenKeyFile(stack),
  };
  return service === "identity" ? { ...served, ...identityEnvironment(stack, ports) } : served;
}

function identityEnvironment(stack: StackName, ports: Ports): Record<string, string> {
  return {
    LEDGERMESH_IDENTITY_KEY_FILE: identityKeyFile(stack),
    LEDGERMESH_KEY_ENCRYPTION_KEY_FILE: keyEncryptionKeyFile(stack),
    LEDGERMESH_LEDGER_ADDRESS: `${HOST}:${ports.ledger}`,
    LEDGERMESH_SMTP_URL: `smtp://${HOST}:${ports.mail}`,
    ...(isForTests(stack) ? { LEDGERMESH_SIGN_IN_ADDRESS_BURST: "100000" } : {}),
  };
}

/** All tests come from one address and sign in side by side: what limits an address is tested on parts of its own. */
function isForTests(stack: StackName): boolean {
  return stack === "test";
}

/** The settings of the local mail server. */
export function mailEnvironment(stack: StackName): Record<string, string> {
  const ports = stackPorts(stack);
  return { LEDGERMESH_MAIL_PORT: String(ports.mail), LEDGERMESH_MAIL_HTTP_PORT: String(ports.mail_http) };
}

/** The settings of the migrations. */
export function migrationEnvironment(stack: StackName): Record<string, string> {
  return {
    LEDGERMESH_MIGRATE_SHARDS: superuserShardUrls(stack).join(","),
    LEDGERMESH_ROLE_PASSWORDS_DIR: secretsFolder(stack),
  };
}

/** The settings of gateway/render-config.ts. */
export function gatewayEnvironment(stack: StackName): Record<string, string> {
  const ports = stackPorts(stack);
  const own = tlsFiles(stack, "gateway");
  return {
    LEDGERMESH_GATEWAY_PORT: String(ports.gateway),
    LEDGERMESH_GATEWAY_TLS_PORT: String(ports.gateway_tls),
    LEDGERMESH_GATEWAY_CERTIFICATE_FILE: own.certificateFile,
    LEDGERMESH_GATEWAY_KEY_FILE: own.keyFile,
    LEDGERMESH_GATEWAY_ADMIN_PORT: String(ports.gateway_admin),
    LEDGERMESH_GATEWAY_KEYS_PORT: String(ports.gateway_keys),
    LEDGERMESH_ENVIRONMENT: "development",
    LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE: developmentKeyFile(stack),
    LEDGERMESH_LEDGER_ADDRESS: `${HOST}:${ports.ledger}`,
    LEDGERMESH_REPORTING_ADDRESS: `${HOST}:${ports.reporting}`,
    LEDGERMESH_IDENTITY_ADDRESS: `${HOST}:${ports.identity}`,
    // On one machine every client has the same address: benches and tests are not held up, a flood of sign-ins is.
    LEDGERMESH_GATEWAY_SIGN_IN_LIMIT: isForTests(stack) ? "100000/10" : "100/20",
    LEDGERMESH_GATEWAY_COMMAND_LIMIT: "100000/10",
    LEDGERMESH_GATEWAY_QUERY_LIMIT: "100000/10",
    ...tlsEnvironment(own),
    LEDGERMESH_GATEWAY_REFERENCE_SCRIPT_FILE: referenceScript,
  };
}
