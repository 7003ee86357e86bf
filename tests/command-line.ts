import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { tlsEnvironment } from "#infra/local/tls-files.ts";
import { commandEnvironment } from "#tests/config.ts";
import { consoleToken } from "#tests/rest.ts";
import { stack } from "#tests/stack.ts";

/** Runs `ledgermesh` as a user does, against the test stack. */

export interface CommandRun {
  readonly exitStatus: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const DEADLINE_MS = 120_000;
const ROOT = dirname(import.meta.dirname);

/** `interruptAt`: Ctrl-C is pressed as soon as the output contains this. */
export function ledgermesh(args: readonly string[], interruptAt?: string): Promise<CommandRun> {
  const addresses = ["--ledger", stack.ledger, ...(args[0] === "demo" ? ["--gateway", stack.gateway] : [])];
  return run([...args, ...addresses], interruptAt);
}

/** The same, with these arguments alone. */
export async function run(args: readonly string[], interruptAt?: string): Promise<CommandRun> {
  const token = await consoleToken();
  const child = spawn(process.execPath, ["cli/main.ts", ...args], {
    cwd: ROOT,
    env: commandEnvironment({ ...tlsEnvironment(stack.tls), LEDGERMESH_ACCESS_TOKEN: token }),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: DEADLINE_MS,
  });
  let stdout = "";
  let stderr = "";
  let interrupted = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (interruptAt === undefined || interrupted || !stdout.includes(interruptAt)) return;
    interrupted = true;
    child.kill("SIGINT");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitStatus) => resolve({ exitStatus, stdout, stderr }));
  });
}
