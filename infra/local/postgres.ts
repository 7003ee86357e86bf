import { execFile, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { inheritedEnvironment } from "#infra/local/config.ts";
import { endProcess } from "#infra/local/end-process.ts";
import { HOST, SUPERUSER_ROLE } from "#infra/local/endpoints.ts";
import { root } from "#infra/local/paths.mjs";
import {
  choosePostgresUser,
  NOBODY_ID,
  POSTGRES_USER_REMEDY,
  type PostgresUser,
  postgresCommand,
} from "#infra/local/postgres-user.mjs";
import { Problem } from "#infra/local/problem.ts";
import { identify } from "#infra/local/processes.mjs";

const run = promisify(execFile);
const INITDB_TIMEOUT_MS = 60_000;
/** What all shards of a stack share evenly, so that a further one costs the machine little. */
const SHARED_BUFFERS_OF_STACK_MB = 512;
const WAL_MAX_OF_STACK_MB = 4096;
/** Enough for a checkpoint of everything that shared_buffers can hold. */
export const POSTGRES_STOP_TIMEOUT_MS = 30_000;

let chosen: PostgresUser | undefined;

function postgresUser(): PostgresUser {
  chosen ??= choosePostgresUser();
  if (chosen === "impossible") throw new Problem(POSTGRES_USER_REMEDY);
  return chosen;
}

/** How a Postgres server is started on its folder, as one of so many of its stack. */
export function postgresServer(folder: string, port: number, shardCount: number) {
  const user = postgresUser();
  const settings = {
    config_file: join(root, "infra", "local", "postgresql.conf"),
    listen_addresses: HOST,
    port,
    // No unix socket: its path may have 107 bytes only, and a checkout may lie deep.
    unix_socket_directories: "",
    shared_buffers: `${Math.floor(SHARED_BUFFERS_OF_STACK_MB / shardCount)}MB`,
    max_wal_size: `${Math.floor(WAL_MAX_OF_STACK_MB / shardCount)}MB`,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const [command = "", ...rest] = postgresCommand(user, "postgres", ["-D", folder, ...args]);
  return { command, args: rest, ...(user === "nobody" ? { uid: NOBODY_ID, gid: NOBODY_ID } : {}) };
}

/** Makes the cluster when there is none, and clears away what a killed server left behind. */
export async function preparePostgres(folder: string, password: string): Promise<void> {
  if (!existsSync(folder)) return await initializeCluster(folder, password);
  await clearPidFile(folder);
  giveTo(postgresUser(), folder);
}

/** Postgres wants its folder to be its own; root may have started it in another way the last time. */
function giveTo(user: PostgresUser, folder: string): void {
  if (user === "self") return;
  const owner = user === "nobody" ? NOBODY_ID : 0;
  if (statSync(folder).uid !== owner) spawnSync("chown", ["-R", `${owner}:${owner}`, folder]);
}

/** The clusters of a stack are made side by side, while the other servers start. */
async function initializeCluster(folder: string, password: string): Promise<void> {
  const user = postgresUser();
  // Renamed at the end: a folder of this name is always a whole cluster.
  const unfinished = `${folder}.new`;
  const passwordFile = `${folder}.password`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user === "nobody") {
    for (const path of [unfinished, passwordFile]) chownSync(path, NOBODY_ID, NOBODY_ID);
  }
  chmodSync(unfinished, 0o700);
  const options = ["--data-checksums", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions"];
  const [command = "", ...args] = postgresCommand(user, "initdb", [
    `--pgdata=${unfinished}`,
    `--username=${SUPERUSER_ROLE}`,
    `--pwfile=${passwordFile}`,
    ...options,
  ]);
  try {
    await run(command, args, {
      env: inheritedEnvironment(),
      timeout: INITDB_TIMEOUT_MS,
      ...(user === "nobody" ? { uid: NOBODY_ID, gid: NOBODY_ID } : {}),
    });
  } catch (error) {
    const { stdout = "", stderr = "", message } = error as Error & { stdout?: string; stderr?: string };
    throw new Problem(`initdb could not make ${folder}: ${`${stdout}${stderr}`.trim() || message}`);
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(unfinished, folder);
}

/**
 * Postgres refuses to start when the pid in its pid file runs, also when that is a stranger who got the pid after a crash
 * or a restart of the machine. A server of this very folder is ended, a stranger's pid is forgotten.
 */
async function clearPidFile(folder: string): Promise<void> {
  const file = join(folder, "postmaster.pid");
  if (!existsSync(file)) return;
  const pid = Number(readFileSync(file, "utf8").split("\n")[0]);
  const identity = Number.isInteger(pid) && pid > 0 && workingFolder(pid) === folder ? identify(pid) : undefined;
  if (identity !== undefined) await endProcess(identity, "SIGINT", POSTGRES_STOP_TIMEOUT_MS);
  rmSync(file, { force: true });
}

/** A Postgres server works in its data folder. */
function workingFolder(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}
