import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { outerEnvironment } from "#bench/config.ts";
import { CURRENCY } from "#bench/load-request.ts";
import { postTransfer } from "#bench/post-transfer.ts";
import { openRest, type Rest } from "#bench/rest.ts";
import { portVariable } from "#infra/local/config.ts";
import { localFolder, root } from "#infra/local/paths.mjs";
import { portNames, portsOf } from "#infra/local/ports.ts";
import { idGenerator } from "#lib/ids.ts";

/** From nothing but a clone to the first transfer: what somebody waits who has just found the project. */

/** Beside the stacks dev, test and bench. */
const PORT_OFFSET = 30_000;

export interface FreshStart {
  readonly setUpAndStartMs: number;
  readonly toFirstTransferMs: number;
}

/** Clones HEAD, so what is not committed does not count, and removes the clone at the end. */
export async function measureFreshStart(signal: AbortSignal, say: (line: string) => void): Promise<FreshStart> {
  const folder = mkdtempSync(join(localFolder, "bench-fresh-start-"));
  const clone = join(folder, "ledgermesh");
  const dev = portsOf("dev", () => undefined);
  const ports = Object.fromEntries(portNames.map((name) => [portVariable(name), String(dev[name] + PORT_OFFSET)]));
  const inClone = (...args: readonly string[]) => run("make", ["-C", clone, ...args], ports, signal, say);
  const startedMs = performance.now();
  const gateway = `http://127.0.0.1:${dev.gateway + PORT_OFFSET}`;
  let rest: Rest | undefined;
  try {
    await run("git", ["clone", "--quiet", root, clone], {}, signal, say);
    try {
      await inClone("start");
      const setUpAndStartMs = performance.now() - startedMs;
      rest = openRest(gateway, await tokenOf(clone), 1);
      // One owner for both accounts, so that they are on one shard. Owners need not exist.
      const ownerId = idGenerator(Date.now)("user", 0);
      const [debit, credit] = [await openAccount(rest, ownerId, true), await openAccount(rest, ownerId, false)];
      await postTransfer(rest, debit, credit);
      return { setUpAndStartMs, toFirstTransferMs: performance.now() - startedMs };
    } finally {
      await run("make", ["-C", clone, "stop"], ports, undefined, say);
    }
  } finally {
    rest?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As somebody who reads the README makes it. */
async function tokenOf(clone: string): Promise<string> {
  const { stdout } = await promisify(execFile)("make", ["-s", "-C", clone, "token", "ROLE=service"], {
    env: outerEnvironment(),
  });
  return stdout.trim();
}

async function openAccount(rest: Rest, ownerId: string, unbounded: boolean): Promise<string> {
  const account = { owner_id: ownerId, currency: CURRENCY, kind: "WALLET", ...(unbounded ? { unbounded } : {}) };
  const { status, text } = await rest.post("/v1/ledger/accounts", JSON.stringify(account), {
    "idempotency-key": randomUUID(),
  });
  if (status !== 200) throw new Error(`HTTP ${status}: ${text}`);
  return (JSON.parse(text) as { account_id: string }).account_id;
}

function run(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
  say: (line: string) => void,
): Promise<void> {
  signal?.throwIfAborted();
  const env = { ...outerEnvironment(), ...environment };
  // Its own process group: a Ctrl-C reaches it through us, once.
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const interrupt = () => {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGINT");
  };
  signal?.addEventListener("abort", interrupt, { once: true });
  let tail = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      tail = `${tail}${text}`.slice(-2_000);
      for (const line of text.trimEnd().split("\n")) say(`  | ${line}`);
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      signal?.removeEventListener("abort", interrupt);
      if (code === 0) resolve();
      else reject(new Error(`${command} ${args.join(" ")} failed with ${code}:\n${tail}`));
    });
  });
}
