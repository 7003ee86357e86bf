import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GHZ_VERSION, goEnvironment, loadClientFile } from "#bench/config.ts";
import { installGhz, measureWithGhz } from "#bench/ghz.ts";
import { CURRENCY, EXTRA_MS, type Load, type Protocol } from "#bench/load-request.ts";
import type { Measurement } from "#bench/measurement.ts";
import { runProgram } from "#bench/run-program.ts";
import { localFolder } from "#infra/local/paths.mjs";

/**
 * The closed-loop load, from a process of its own: each caller sends its next transfer when the last one was answered, and
 * calls under way at the end are waited for. Where there is Go: ghz for gRPC, bench/load for REST; else Node for both.
 */
export interface LoadClient {
  /** For the table: who makes the load of a protocol. */
  readonly names: Readonly<Record<Protocol, string>>;
  /** Whether the load by gRPC comes from ghz, which alone knows open loops, plain text and tokens. */
  readonly hasGhz: boolean;
  measure(load: Load): Promise<Measurement>;
}

type Measure = (load: Load) => Promise<Measurement>;

interface Client {
  readonly name: string;
  readonly measure: Measure;
}

const GHZ_NAME = `ghz ${GHZ_VERSION}`;
const GO_FOLDER = new URL("load/", import.meta.url);
const NODE_CLIENT_FILE = new URL("node-client.ts", import.meta.url);

/** What our own clients print. */
interface Report {
  readonly acknowledged: number;
  readonly failed: number;
  readonly first_failures: readonly string[] | null;
}

/** Builds the Go clients; says why and takes the Node client when that does not work. */
export async function openLoadClient(signal: AbortSignal, say: (line: string) => void): Promise<LoadClient> {
  const { grpc, rest } = await openClients(signal, say);
  return {
    names: { grpc: grpc.name, rest: rest.name },
    hasGhz: grpc.name === GHZ_NAME,
    measure: (load) => (load.protocol === "grpc" ? grpc : rest).measure(load),
  };
}

async function openClients(signal: AbortSignal, say: (line: string) => void): Promise<Record<Protocol, Client>> {
  const inNode = (protocol: Protocol): Client => ({
    name: `own client in Node (${process.version})`,
    measure: ownClient(process.execPath, [NODE_CLIENT_FILE.pathname, `--protocol=${protocol}`], signal),
  });
  const clients = { grpc: inNode("grpc"), rest: inNode("rest") };
  const version = await runProgram("go", ["env", "GOVERSION"], signal, { cwd: GO_FOLDER, env: goEnvironment() });
  signal.throwIfAborted();
  if (version.code !== 0) {
    say(`no Go, so the load comes from a slower client in Node: ${version.stderr.trim() || version.failure}`);
    return clients;
  }

  say("building the load clients (ghz takes a minute or two, once)");
  const ghz = await installGhz(signal);
  signal.throwIfAborted();
  if (ghz === "installed") clients.grpc = { name: GHZ_NAME, measure: (load) => measureWithGhz(load, signal) };
  else say(`no ghz, so the gRPC load comes from a slower client in Node: ${ghz.failure}`);

  const build = await runProgram("go", ["build", "-o", loadClientFile, "."], signal, {
    cwd: GO_FOLDER,
    env: goEnvironment(),
  });
  signal.throwIfAborted();
  if (build.code === 0) {
    const name = `own client in Go (${version.stdout.trim()})`;
    clients.rest = { name, measure: ownClient(loadClientFile, [], signal) };
  } else {
    say(`no Go client, so the REST load comes from a slower one in Node: ${build.stderr.trim() || build.failure}`);
  }
  return clients;
}

/** A client of ours: bench/load and bench/node-client.ts take the same flags. */
function ownClient(command: string, firstArgs: readonly string[], signal: AbortSignal): Measure {
  return async (load) => {
    if (load.protocol === "grpc" && (load.tls === undefined || load.bearer !== undefined)) {
      throw new Error("plain text and tokens need ghz, and ghz needs Go");
    }
    if (load.callsPerSecond !== undefined) throw new Error("an open loop needs ghz, and ghz needs Go");
    const folder = mkdtempSync(join(localFolder, "bench-load-"));
    try {
      const pairs = join(folder, "pairs");
      const latencies = join(folder, "latencies");
      writeFileSync(pairs, load.pairs.map((pair) => pair.join(" ")).join("\n"));
      const tokenFile = join(folder, "token");
      writeFileSync(tokenFile, await load.token(), { mode: 0o600 });
      const flags = {
        address: load.address,
        pairs,
        latencies,
        currency: CURRENCY,
        ...(load.protocol === "grpc" &&
          load.tls && {
            "tls-ca": load.tls.caFile,
            "tls-certificate": load.tls.certificateFile,
            "tls-key": load.tls.keyFile,
          }),
        ...(load.protocol === "rest" && { "token-file": tokenFile }),
        callers: load.callers,
        "warm-up-ms": load.warmUpMs,
        "measure-ms": load.measureMs,
      };
      const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
      const timeout = load.warmUpMs + load.measureMs + EXTRA_MS;
      const ended = await runProgram(command, [...firstArgs, ...args], signal, { timeout });
      if (ended.code !== 0) throw new Error(`the load client failed: ${ended.stderr.trim() || ended.failure}`);
      const { acknowledged, failed, first_failures } = JSON.parse(ended.stdout) as Report;
      const bytes = readFileSync(latencies);
      const latenciesUs = Uint32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(4 * index));
      return { acknowledged, failed, firstFailures: first_failures ?? [], measuredMs: load.measureMs, latenciesUs };
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}
