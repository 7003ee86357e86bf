import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { goEnvironment, loadClientFile } from "#bench/config.ts";
import type { Funded } from "#bench/fund-accounts.ts";
import type { Measurement } from "#bench/measurement.ts";
import { localFolder } from "#infra/local/paths.mjs";

/** The closed-loop load: a process of its own, in Go where there is Go, else in Node. Both take the same flags. */
export interface LoadClient {
  /** For the table. */
  readonly name: string;
  measure(load: Load): Promise<Measurement>;
}

export interface Load {
  readonly protocol: "grpc" | "rest";
  /** host:port */
  readonly address: string;
  readonly callers: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly funded: Funded;
}

const GO_FOLDER = new URL("load/", import.meta.url);
const NODE_CLIENT_FILE = new URL("node-client.ts", import.meta.url);
/** Beyond the time that was asked for: for connecting, and for the last answers. */
const EXTRA_MS = 30_000;

interface Report {
  readonly acknowledged: number;
  readonly failed: number;
  readonly first_failures: readonly string[] | null;
}

/** Builds the Go client; says why and takes the Node client when that does not work. */
export async function openLoadClient(signal: AbortSignal, say: (line: string) => void): Promise<LoadClient> {
  say("building the load client (the first time fetches its Go modules)");
  const build = await run("go", ["build", "-o", loadClientFile, "."], signal, { cwd: GO_FOLDER, env: goEnvironment() });
  signal.throwIfAborted();
  if (build.code === 0) {
    const version = await run("go", ["env", "GOVERSION"], signal, { cwd: GO_FOLDER, env: goEnvironment() });
    return client(`grpc-go client (${version.stdout.trim()})`, loadClientFile, [], signal);
  }
  say(`no Go client, so the load comes from a slower one in Node: ${build.stderr.trim() || build.failure}`);
  return client(`grpc-js client (Node ${process.version})`, process.execPath, [NODE_CLIENT_FILE.pathname], signal);
}

function client(name: string, command: string, firstArgs: readonly string[], signal: AbortSignal): LoadClient {
  return {
    name,
    async measure(load) {
      const folder = mkdtempSync(join(localFolder, "bench-load-"));
      try {
        const accounts = join(folder, "accounts");
        const latencies = join(folder, "latencies");
        writeFileSync(accounts, load.funded.accountIds.join("\n"));
        const flags = {
          protocol: load.protocol,
          address: load.address,
          accounts,
          latencies,
          currency: load.funded.currency,
          callers: load.callers,
          "warm-up-ms": load.warmUpMs,
          "measure-ms": load.measureMs,
        };
        const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
        const timeout = load.warmUpMs + load.measureMs + EXTRA_MS;
        const ended = await run(command, [...firstArgs, ...args], signal, { timeout });
        if (ended.code !== 0) throw new Error(`the load client failed: ${ended.stderr.trim() || ended.failure}`);
        const { acknowledged, failed, first_failures } = JSON.parse(ended.stdout) as Report;
        const bytes = readFileSync(latencies);
        const latenciesUs = Uint32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(4 * index));
        return { acknowledged, failed, firstFailures: first_failures ?? [], measuredMs: load.measureMs, latenciesUs };
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Why it has no exit code. */
  readonly failure: string;
}

function run(
  command: string,
  args: readonly string[],
  signal: AbortSignal,
  options: { cwd?: URL; env?: NodeJS.ProcessEnv; timeout?: number },
): Promise<Ended> {
  return new Promise((resolve) => {
    const child: ChildProcess = spawn(command, args, { ...options, signal, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let failure = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error) => {
      failure = error.message;
      // Not found: there will be no "close".
      if (child.pid === undefined) resolve({ code: null, stdout, stderr, failure });
    });
    child.on("close", (code, ending) => resolve({ code, stdout, stderr, failure: failure || `ended by ${ending}` }));
  });
}
