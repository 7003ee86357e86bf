import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { elasticsearchArguments } from "#infra/local/elasticsearch-command.mjs";
import {
  DATABASE,
  gatewayEnvironment,
  HOST,
  mailEnvironment,
  migrationEnvironment,
  NATS_USER,
  type ServiceName,
  stackEnvironment,
} from "#infra/local/endpoints.ts";
import { dataFolder, runFolder } from "#infra/local/folders.ts";
import { elasticsearchHome, envoyCommand, javaCommand, natsServerCommand, root } from "#infra/local/paths.mjs";
import { type PortName, type ShardPort, type StackName, shardCountOf, shardPortsOf } from "#infra/local/ports.ts";
import { POSTGRES_STOP_TIMEOUT_MS, postgresServer, preparePostgres } from "#infra/local/postgres.ts";
import { ensureDatabase, httpCheck, postgresCheck, type ReadinessCheck } from "#infra/local/readiness.ts";
import { natsPassword, superuserPassword } from "#infra/local/secrets.ts";
import { stackPorts } from "#infra/local/stack-ports.ts";

/** What is run for a part: a command line, and what it sees of the world beside what every part sees. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
}

export interface Part {
  readonly name: string;
  /** What must be ready before it starts. A part that was left out is not waited for. */
  readonly after: readonly string[];
  readonly ports: readonly PortName[];
  /** Before each start, a restart included. */
  readonly prepare?: () => Promise<void>;
  /** Runs to its end before the part starts, for example to write its configuration. */
  readonly before?: () => Command;
  readonly command: () => Command;
  /** A task has no check: it is ready when it ended with 0. */
  readonly check?: ReadinessCheck;
  readonly whenReady?: () => Promise<void>;
  readonly readyWithinMs: number;
  readonly stopSignal: NodeJS.Signals;
  readonly stopWithinMs: number;
  /** Parts stop in rising order of this; those of one number side by side. */
  readonly stopOrder: number;
}

const SERVICE_READY_MS = 60_000;
/** After a crash Postgres replays up to max_wal_size, NATS and Elasticsearch look through their files. */
const SERVER_READY_MS = 120_000;
const MIGRATIONS_READY_MS = 120_000;
const SERVICE_STOP_MS = 12_000;
const SERVER_STOP_MS = 15_000;
const STOP_ORDER = { service: 1, gateway: 2, transport: 3, database: 4 } as const;

/** The part of each shard, by its port. */
const shardParts = {
  postgres_1: "postgres-1",
  postgres_2: "postgres-2",
  postgres_3: "postgres-3",
  postgres_4: "postgres-4",
} as const satisfies Record<ShardPort, string>;

const otherParts = [
  "nats",
  "elasticsearch",
  "migrations",
  "ledger",
  "relay",
  "projector",
  "reporting",
  "mail",
  "identity",
  "gateway",
] as const;
export type PartName = (typeof shardParts)[ShardPort] | (typeof otherParts)[number];

/** The parts that a stack has: as many shards as it has, and all others. */
export function partNamesOf(stack: StackName): readonly PartName[] {
  return [...shardPartsOf(stack), ...otherParts];
}

function shardPartsOf(stack: StackName): PartName[] {
  return shardPortsOf(stack).map((port) => shardParts[port]);
}

/** The parts of a stack; the secrets must exist. */
export function partsOf(stack: StackName, without: readonly PartName[]): Part[] {
  const all = [
    ...shardPortsOf(stack).map((port) => postgres(stack, port)),
    nats(stack),
    elasticsearch(stack),
    migrations(stack),
    service(stack, "ledger", ["migrations"]),
    service(stack, "relay", ["migrations", "nats"]),
    service(stack, "projector", ["migrations", "nats", "elasticsearch"]),
    service(stack, "reporting", ["migrations", "elasticsearch"]),
    mail(stack),
    service(stack, "identity", ["migrations"]),
    gateway(stack),
  ];
  const present = all.filter((part) => !without.some((name) => name === part.name));
  return present.map((part) => ({
    ...part,
    after: part.after.filter((name) => present.some((other) => other.name === name)),
  }));
}

function postgres(stack: StackName, port: ShardPort): Part {
  const name = shardParts[port];
  const portNumber = stackPorts(stack)[port];
  const password = superuserPassword(stack);
  const folder = dataFolder(stack, name);
  return {
    name,
    after: [],
    ports: [port],
    prepare: () => preparePostgres(folder, password),
    command: () => postgresServer(folder, portNumber, shardCountOf(stack)),
    check: postgresCheck(portNumber, password),
    whenReady: () => ensureDatabase(portNumber, password, DATABASE),
    readyWithinMs: SERVER_READY_MS,
    // Fast shutdown: connections are closed, everything is written. SIGTERM would wait for the clients.
    stopSignal: "SIGINT",
    stopWithinMs: POSTGRES_STOP_TIMEOUT_MS,
    stopOrder: STOP_ORDER.database,
  };
}

function nats(stack: StackName): Part {
  const ports = stackPorts(stack);
  return {
    name: "nats",
    after: [],
    ports: ["nats", "nats_monitor"],
    command: () => ({
      command: natsServerCommand(),
      args: ["--config", join(root, "infra", "nats", "nats-server.conf")],
      environment: {
        NATS_LISTEN: `"${HOST}:${ports.nats}"`,
        NATS_MONITOR_LISTEN: `"${HOST}:${ports.nats_monitor}"`,
        NATS_USER,
        NATS_PASSWORD: natsPassword(stack),
        // Quoted: the value is read as a piece of the configuration, and a path may hold anything.
        NATS_STORE: JSON.stringify(dataFolder(stack, "nats")),
      },
    }),
    check: httpCheck(`http://${HOST}:${ports.nats_monitor}/healthz`),
    readyWithinMs: SERVER_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVER_STOP_MS,
    stopOrder: STOP_ORDER.transport,
  };
}

function elasticsearch(stack: StackName): Part {
  const ports = stackPorts(stack);
  const data = dataFolder(stack, "elasticsearch");
  return {
    name: "elasticsearch",
    after: [],
    ports: ["elasticsearch", "elasticsearch_transport"],
    prepare: async () => void (await mkdir(data, { recursive: true })),
    command: () => ({
      command: javaCommand(),
      args: elasticsearchArguments(elasticsearchHome, data, ports.elasticsearch, ports.elasticsearch_transport),
      cwd: elasticsearchHome,
    }),
    check: httpCheck(`http://${HOST}:${ports.elasticsearch}/_cluster/health?wait_for_status=yellow&timeout=1s`),
    readyWithinMs: SERVER_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVER_STOP_MS,
    stopOrder: STOP_ORDER.transport,
  };
}

function migrations(stack: StackName): Part {
  return {
    name: "migrations",
    after: shardPartsOf(stack),
    ports: [],
    command: () => ({ ...script("infra/postgres/migrate.ts"), environment: migrationEnvironment(stack) }),
    readyWithinMs: MIGRATIONS_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVICE_STOP_MS,
    stopOrder: STOP_ORDER.service,
  };
}

function service(stack: StackName, name: ServiceName, after: readonly PartName[]): Part {
  const ports: PortName[] =
    name === "ledger" || name === "reporting" || name === "identity" ? [name, `${name}_health`] : [`${name}_health`];
  return {
    name,
    after,
    ports,
    command: () => ({ ...script(`services/${name}/main.ts`), environment: stackEnvironment(stack, name) }),
    check: httpCheck(`http://${HOST}:${stackPorts(stack)[`${name}_health`]}/healthz`),
    readyWithinMs: SERVICE_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVICE_STOP_MS,
    stopOrder: STOP_ORDER.service,
  };
}

/** Takes e-mail by SMTP and keeps it to be read: nothing leaves the machine. */
function mail(stack: StackName): Part {
  return {
    name: "mail",
    after: [],
    ports: ["mail", "mail_http"],
    command: () => ({ ...script("infra/local/mail-server.ts"), environment: mailEnvironment(stack) }),
    check: httpCheck(`http://${HOST}:${stackPorts(stack).mail_http}/healthz`),
    readyWithinMs: SERVICE_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVICE_STOP_MS,
    stopOrder: STOP_ORDER.transport,
  };
}

function gateway(stack: StackName): Part {
  const config = join(runFolder(stack), "envoy.json");
  return {
    name: "gateway",
    after: [],
    ports: ["gateway", "gateway_tls", "gateway_admin", "gateway_keys"],
    before: () => ({ ...script("gateway/render-config.ts", "--out", config), environment: gatewayEnvironment(stack) }),
    command: () => ({
      command: envoyCommand(),
      // Without hot restart Envoys share nothing, so that several run beside each other.
      args: ["-c", config, "--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"],
    }),
    check: httpCheck(`http://${HOST}:${stackPorts(stack).gateway_admin}/ready`),
    readyWithinMs: SERVICE_READY_MS,
    stopSignal: "SIGTERM",
    stopWithinMs: SERVER_STOP_MS,
    stopOrder: STOP_ORDER.gateway,
  };
}

/** A program of this repository, on the Node that runs the launcher. */
function script(file: string, ...args: string[]): Command {
  return { command: process.execPath, args: [join(root, file), ...args] };
}
