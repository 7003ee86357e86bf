import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ServiceDefinition } from "@grpc/grpc-js";
import type { GatewayConfig } from "#gateway/config.ts";
import type { RateLimits } from "#gateway/rate-limits.ts";
import { renderConfig } from "#gateway/render-config.ts";
import { secretFiles } from "#gateway/secrets.ts";
import { envoyCommand, referenceScript } from "#infra/local/paths.mjs";
import { tlsFiles } from "#infra/local/tls-files.ts";
import { startGrpcServer, type UnaryMethod, unary } from "#lib/grpc-server.ts";
import { createLogger } from "#lib/log.ts";
import { openTls } from "#lib/tls.ts";
import { IdentityServiceService } from "#proto/ledgermesh/identity/v1/identity.ts";
import { LedgerServiceService } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { HistoryServiceService } from "#proto/ledgermesh/reporting/v1/history.ts";
import { eventually, stackName } from "#tests/stack.ts";

/** What reached the services behind the gateway. */
export interface SeenCall {
  /** `CreateTransfer` */
  readonly method: string;
  readonly request: unknown;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** A gateway of its own on free ports, with stand-ins for the services. */
export interface GatewayProcess {
  readonly url: string;
  /** When `settings` have a listener for TLS. */
  readonly tlsUrl: string;
  readonly adminUrl: string;
  /** Where it asks itself for identity's keys. */
  readonly keysUrl: string;
  readonly seen: readonly SeenCall[];
  /** Breaks the connections of the stand-ins and refuses new ones. */
  breakServices(): void;
  stop(): void;
}

/** Answers a call of a stand-in; undefined stands for the empty answer. Throws a Refusal. */
export type StandIn = (call: SeenCall) => Promise<object | undefined>;

const ANY_NUMBER = { calls: 1_000_000, windowSeconds: 1 };
const UNLIMITED: RateLimits = { sign_in: ANY_NUMBER, command: ANY_NUMBER, query: ANY_NUMBER };

/** `adjust` may change the rendered configuration, to make times and bounds small enough for a test. */
export async function startGateway(
  standIn: StandIn = () => Promise.resolve(undefined),
  adjust: (config: string) => string = (config) => config,
  settings: Partial<GatewayConfig> = {},
): Promise<GatewayProcess> {
  const seen: SeenCall[] = [];
  const startStandIn = (name: "ledger" | "reporting" | "identity", definition: ServiceDefinition) =>
    startGrpcServer(
      0,
      [{ definition, handlers: standInsFor(definition, seen, standIn), access: undefined }],
      openTls(tlsFiles(stackName, name)),
    );
  const ledger = await startStandIn("ledger", LedgerServiceService);
  const reporting = await startStandIn("reporting", HistoryServiceService);
  const identity = await startStandIn("identity", IdentityServiceService);
  const breakServices = () => {
    ledger.destroy();
    reporting.destroy();
    identity.destroy();
  };

  const folder = mkdtempSync(join(tmpdir(), "ledgermesh-gateway-"));
  const keysPort = await freePort();
  const config: GatewayConfig = {
    port: 0,
    tls: undefined,
    adminPort: 0,
    keysPort,
    tokens: undefined,
    trustedHops: 0,
    allowedOrigins: [],
    rateLimits: UNLIMITED,
    ledger: { host: "127.0.0.1", port: ledger.port },
    reporting: { host: "127.0.0.1", port: reporting.port },
    identity: { host: "127.0.0.1", port: identity.port },
    upstreamTls: tlsFiles(stackName, "gateway"),
    referenceScriptFile: referenceScript,
    ...settings,
  };
  const [configFile, adminFile] = [join(folder, "envoy.json"), join(folder, "admin-address")];
  for (const [name, text] of secretFiles(config)) writeFileSync(join(folder, name), text);
  writeFileSync(configFile, adjust(renderConfig(config, folder)));
  const options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
  const envoy = spawn(envoyCommand(), ["-c", configFile, "--admin-address-path", adminFile, ...options], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const stop = () => {
    process.off("exit", stop);
    envoy.kill("SIGKILL");
    breakServices();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", stop);

  let [url, tlsUrl] = ["", ""];
  await eventually(async () => {
    const admin = readFileSync(adminFile, "utf8");
    if (!(await fetch(`http://${admin}/ready`)).ok) return false;
    const listeners = (await (await fetch(`http://${admin}/listeners?format=json`)).json()) as ListenersAnswer;
    const portOf = (listener: string) =>
      listeners.listener_statuses.find(({ name }) => name === listener)?.local_address.socket_address.port_value;
    url = `http://127.0.0.1:${portOf("rest")}`;
    tlsUrl = `https://127.0.0.1:${portOf("rest_tls")}`;
    return portOf("rest") !== undefined;
  }, "the gateway is ready");
  const adminUrl = `http://${readFileSync(adminFile, "utf8")}`;
  return { url, tlsUrl, adminUrl, keysUrl: `http://127.0.0.1:${keysPort}`, seen, breakServices, stop };
}

/** One that was free just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface ListenersAnswer {
  readonly listener_statuses: readonly {
    readonly name: string;
    readonly local_address: { readonly socket_address: { readonly port_value: number } };
  }[];
}

function standInsFor(definition: ServiceDefinition, seen: SeenCall[], standIn: StandIn): Record<string, UnaryMethod> {
  const log = createLogger("stand-in");
  log.level = "silent";
  return Object.fromEntries(
    Object.entries(definition).map(([name, method]) => {
      const emptyAnswer = method.responseDeserialize(Buffer.alloc(0)) as object;
      const handler: Parameters<typeof unary>[2] = async (_, request, { headers }) => {
        const call: SeenCall = { method: method.path.slice(method.path.lastIndexOf("/") + 1), request, headers };
        seen.push(call);
        return (await standIn(call)) ?? emptyAnswer;
      };
      return [name, unary(undefined, log, handler)];
    }),
  );
}
