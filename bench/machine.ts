import { execFileSync } from "node:child_process";
import { arch, availableParallelism, cpus, release, type as systemName, totalmem } from "node:os";
import { join } from "node:path";
import { envoyCommand, natsServerCommand, postgresBinFolder, root } from "#infra/local/paths.mjs";

const GIB = 1024 ** 3;
/** Envoy says `version: HASH/1.40.0/Clean/RELEASE/BoringSSL`, the others `name 1.2.3`. */
const VERSION_PATTERN = /\d+\.\d+(\.\d+)?/;

/** What the figures were measured on, in lines. */
export function describeMachine(): string[] {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const memory = `${(totalmem() / GIB).toFixed(0)} GiB memory`;
  const commit = run("git", ["-C", root, "describe", "--always", "--dirty"]);
  return [
    `machine: ${model}, ${availableParallelism()} processors, ${memory}, ${systemName()} ${release()} ${arch()}`,
    `versions: Ledgermesh ${commit}, Node ${process.version}, Postgres ${versionOf(join(postgresBinFolder, "postgres"))}, ` +
      `NATS ${versionOf(natsServerCommand())}, Envoy ${versionOf(envoyCommand())}`,
    "durable: fsync, synchronous_commit and full_page_writes are on; client and servers share the machine",
  ];
}

function versionOf(command: string): string {
  const text = run(command, ["--version"]);
  return VERSION_PATTERN.exec(text.replace(/^.*\/(\d+\.\d+\.\d+)\/.*$/m, "$1"))?.[0] ?? "unknown";
}

function run(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}
