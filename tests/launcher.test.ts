import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import { Client } from "pg";
import { endpoints } from "#infra/local/endpoints.ts";
import { dataFolder, lockFile, secretsFolder, stateFile } from "#infra/local/folders.ts";
import type { PartName } from "#infra/local/parts.ts";
import { root } from "#infra/local/paths.mjs";
import { identify, isAlive, type ProcessIdentity, processTree, waitForEnd } from "#infra/local/processes.mjs";
import { readStatus, startStack, stopStack } from "#infra/local/stack.ts";
import { readState } from "#infra/local/state.ts";

/** The launcher on a stack of its own, which is killed in every way. The tests build on each other: one stack, in order. */
const STACK = "launcher";
const LAUNCHER_ENVIRONMENT = { PATH: "/usr/bin:/bin", LEDGERMESH_CANARY: "of the person who starts" };
/** Without the slow one and those that need it; the first test starts them all. */
const WITHOUT: PartName[] = ["elasticsearch", "projector", "reporting"];

after(() => stopStack(STACK));

/** Runs the launcher's command line. */
function launcher(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const run = spawnSync(process.execPath, [join(root, "infra/local/main.ts"), ...args, "--stack", STACK], {
    encoding: "utf8",
    env: { ...LAUNCHER_ENVIRONMENT, ...environment },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

/** Every process of the stack: the supervisor, its parts and their descendants. */
function everyProcess(): ProcessIdentity[] {
  const state = readState(STACK);
  assert.ok(state);
  const pids = [state.supervisor.pid, ...state.parts.flatMap((part) => part.process?.pid ?? [])];
  return [...new Set(pids.flatMap(processTree))].flatMap((pid) => identify(pid) ?? []);
}

function pidOf(part: string): number {
  const pid = readState(STACK)?.parts.find((candidate) => candidate.name === part)?.process?.pid;
  assert.ok(pid, part);
  return pid;
}

async function killLauncher(): Promise<void> {
  const state = readState(STACK);
  assert.ok(state);
  process.kill(state.supervisor.pid, "SIGKILL");
  assert.ok(await waitForEnd(state.supervisor, 5_000));
}

async function query(shard: number, text: string) {
  const db = new Client({ connectionString: endpoints(STACK).shards[shard - 1] });
  await db.connect();
  try {
    return await db.query(text);
  } finally {
    await db.end();
  }
}

/** The addresses that a process listens on, as /proc/net/tcp and tcp6 write them. */
function listeningAddresses(pid: number): string[] {
  const sockets = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  const LISTEN = "0A";
  return ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTEN && sockets.has(fields[9]))
      .map((fields) => fields[1]?.split(":")[0] ?? ""),
  );
}

test("start returns when every part is ready, and everything listens on loopback only", async () => {
  const started = launcher(["start", "--fresh"]);
  assert.equal(started.err, "");
  assert.equal(started.code, 0);
  assert.match(started.out, /Ready in [\d.]+ s\.\nREST: http:\/\/127\.0\.0\.1:\d+\n/);

  const status = await readStatus(STACK);
  assert.equal(status.phase, "running");
  for (const part of status.parts) assert.equal(part.state, part.name === "migrations" ? "done" : "ready", part.name);
  assert.equal(status.parts.length, 12);
  assert.ok(status.memoryBytes < 3 * 1024 ** 3, `${status.memoryBytes} bytes`);

  const LOOPBACK = ["0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"];
  for (const part of status.parts) {
    if (part.pid === undefined) continue;
    const addresses = processTree(part.pid).flatMap(listeningAddresses);
    assert.ok(addresses.length >= Object.keys(part.ports).length, part.name);
    for (const address of addresses) assert.ok(LOOPBACK.includes(address), `${part.name} listens on ${address}`);
  }
});

test("secrets are for their owner only, and a part sees nothing of the environment of who started it", () => {
  for (const name of readdirSync(secretsFolder(STACK), { recursive: true, encoding: "utf8" })) {
    const found = statSync(join(secretsFolder(STACK), name));
    assert.equal(found.mode & 0o777, found.isDirectory() ? 0o700 : 0o600, name);
  }
  const seen = readFileSync(`/proc/${pidOf("ledger")}/environ`, "utf8");
  assert.match(seen, /LEDGERMESH_SHARDS=postgres:\/\/ledger:/);
  assert.doesNotMatch(seen, /LEDGERMESH_CANARY/);
});

test("a stack that runs is not started twice: start says so, up refuses", () => {
  const before = pidOf("ledger");
  const again = launcher(["start"]);
  assert.deepEqual(
    [again.code, again.out],
    [0, `The stack ${STACK} already runs. Look at it with: make status STACK=${STACK}\n`],
  );
  const up = launcher(["up"]);
  assert.equal(up.code, 1);
  assert.match(
    up.err,
    /^The stack launcher already runs \(process \d+\)\. Mend it: stop it first: make stop STACK=launcher\n$/,
  );
  assert.equal(pidOf("ledger"), before);
});

test("status tells people and machines the same", () => {
  const status = JSON.parse(launcher(["status", "--json"]).out) as Awaited<ReturnType<typeof readStatus>>;
  const table = launcher(["status"]).out;
  for (const part of status.parts)
    assert.match(table, new RegExp(`^${part.name} +${part.state} +${part.pid ?? ""}`, "m"));
});

test("stop ends every process and frees every port", async () => {
  const processes = everyProcess();
  assert.ok(processes.length > 10);
  const stopped = launcher(["stop"]);
  assert.deepEqual([stopped.code, stopped.out], [0, `The stack ${STACK} is stopped.\n`]);
  assert.deepEqual(processes.filter(isAlive), []);
  assert.equal(existsSync(stateFile(STACK)), false);
  assert.equal(existsSync(lockFile(STACK)), false);
  assert.equal((await readStatus(STACK)).phase, "stopped");
  assert.equal(launcher(["stop"]).out, `The stack ${STACK} was not running.\n`);
});

test("what was committed survives a kill -9 of every process at once", async () => {
  await startStack(STACK, { without: WITHOUT });
  await query(1, "create table survivors (id int)");
  await query(1, "insert into survivors select generate_series(1, 1000)");
  const processes = everyProcess();
  for (const { pid } of processes) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // A descendant that its parent took along.
    }
  }
  // A killed process is gone a moment later, not at once.
  for (const killed of processes) assert.ok(await waitForEnd(killed, 5_000));
  assert.equal((await readStatus(STACK)).phase, "orphaned");
  await startStack(STACK, { without: WITHOUT });
  assert.deepEqual((await query(1, "select count(*)::int as n from survivors")).rows, [{ n: 1000 }]);
});

test("after a kill -9 of the launcher alone, start ends what it left running and starts anew", async () => {
  const lines: string[] = [];
  const processes = everyProcess();
  await killLauncher();
  await startStack(STACK, { without: WITHOUT, onLine: (line) => lines.push(line) });
  assert.match(lines[0] ?? "", /^Ended what a killed launcher had left running: postgres-1, .*gateway\.$/);
  assert.deepEqual(processes.filter(isAlive), []);
  assert.equal((await query(1, "select 1 as one")).rows.length, 1);
});

test("after a kill -9 of the launcher alone, stop ends what it left running", async () => {
  const processes = everyProcess();
  await killLauncher();
  const stopped = launcher(["stop"]);
  assert.deepEqual(stopped.out, `The stack ${STACK} is stopped (its launcher had been killed).\n`);
  assert.deepEqual(processes.filter(isAlive), []);
});

test("a pid file that names a stranger's process keeps Postgres from nothing", async () => {
  writeFileSync(join(dataFolder(STACK, "postgres-1"), "postmaster.pid"), `${process.pid}\n`);
  await startStack(STACK, { without: WITHOUT });
  assert.deepEqual((await query(1, "select count(*)::int as n from survivors")).rows, [{ n: 1000 }]);
});

test("a part that dies is started again, said so, and nothing else is", async () => {
  const before = new Map(readState(STACK)?.parts.map((part) => [part.name, part.process?.pid]));
  process.kill(pidOf("ledger"), "SIGKILL");
  const deadline = Date.now() + 30_000;
  const ledgerNow = () => readState(STACK)?.parts.find((part) => part.name === "ledger");
  while (!(ledgerNow()?.state === "ready" && ledgerNow()?.process?.pid !== before.get("ledger"))) {
    assert.ok(Date.now() < deadline, "ledger is not back");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(ledgerNow()?.restarts, 1);
  for (const part of readState(STACK)?.parts ?? []) {
    if (part.name !== "ledger") assert.equal(part.process?.pid, before.get(part.name), part.name);
  }
  const log = readFileSync(join(root, ".local", STACK, "logs", "supervisor.log"), "utf8");
  assert.match(log, /ledger ended \(SIGKILL\): starting it again in 0\.25 s\n[\s\S]*ledger is ready again\n/);
  await stopStack(STACK);
});

test("a taken port fails the start in one line before anything is started", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = (server.address() as AddressInfo).port;
  const refused = launcher(["start"], { LEDGERMESH_PORT_GATEWAY: String(port) });
  server.close();
  assert.equal(refused.code, 1);
  assert.equal(
    refused.err,
    `Port ${port} of gateway is taken by another program. Mend it: set LEDGERMESH_PORT_GATEWAY to a free port.\n`,
  );
  assert.equal((await readStatus(STACK)).phase, "stopped");
});

test("a mis-spelt variable of a port fails every command but stop in one line that names it", () => {
  const misspelt = { LEDGERMESH_PORT_GATWAY: "9090" };
  for (const command of ["start", "up", "status"]) {
    const refused = launcher([command], misspelt);
    assert.deepEqual([refused.code, refused.out], [1, ""], command);
    assert.match(
      refused.err,
      /^LEDGERMESH_PORT_GATWAY is set, and there is no such port\. Mend it: .*\bGATEWAY\b.*\n$/,
    );
  }
  assert.equal(launcher(["stop"], misspelt).code, 0);
});

test("a shard that the stack does not have is no part of it", () => {
  const refused = launcher(["start", "--without", "postgres-3"]);
  assert.equal(refused.code, 1);
  assert.match(
    refused.err,
    /^The stack launcher has no part "postgres-3"\. Mend it: give some of postgres-1, postgres-2, nats,/,
  );
});

test("a part that cannot start fails the start with its name and the end of its log, and nothing is left running", async () => {
  writeFileSync(join(dataFolder(STACK, "postgres-2"), "PG_VERSION"), "9\n");
  const failed = launcher(["start", "--without", WITHOUT.join(",")]);
  assert.equal(failed.code, 1);
  assert.match(
    failed.err,
    /database files are incompatible with server[\s\S]*postgres-2 could not be started: .*postgres-2\.log\n$/,
  );
  assert.equal((await readStatus(STACK)).phase, "stopped");
  assert.equal(existsSync(lockFile(STACK)), false);
});

test("reset asks before it wipes, and with --force leaves no data", async () => {
  const asked = launcher(["reset"]);
  assert.deepEqual([asked.code, asked.err], [1, "Wiping data asks first, and nobody can answer. Mend it: FORCE=1\n"]);
  assert.equal(existsSync(dataFolder(STACK, "postgres-1")), true);
  assert.equal(launcher(["reset", "--force"]).code, 0);
  assert.equal(existsSync(dataFolder(STACK, "postgres-1")), false);
});
