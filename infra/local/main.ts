import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { inheritedEnvironment } from "#infra/local/config.ts";
import { migrationEnvironment } from "#infra/local/endpoints.ts";
import { logFile, stackFolder } from "#infra/local/folders.ts";
import { makeCommand } from "#infra/local/make-command.ts";
import { notPermitted } from "#infra/local/not-permitted.mjs";
import { type PartName, partNamesOf } from "#infra/local/parts.ts";
import { root } from "#infra/local/paths.mjs";
import { isStackName, portsOf, type StackName, shardCountOf, stackNames } from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";
import { readStatus, type SupervisorMessage, startStack, stopStack } from "#infra/local/stack.ts";
import { statusTable } from "#infra/local/status-table.ts";
import { up, wipe } from "#infra/local/up.ts";

const HELP = `The local stack: all servers and services on this machine, on loopback.

  node infra/local/main.ts COMMAND [options]

  up            start everything in the foreground; Ctrl-C stops it
  start         start everything in the background, return when it is ready
  stop          stop everything
  status        what runs, where, since when (--json for machines)
  logs [PART]   follow the logs of all parts or of one
  reset         stop, then wipe all data of the stack (--force: without asking)
  migrate       bring the databases of the running stack to the newest schema

  --stack NAME      each with its own ports and data, and as many shards (default dev):
                    ${stackNames.map((stack) => `${stack} ${shardCountOf(stack)}`).join(", ")}
  --without A,B     up, start: leave parts out (${partNamesOf("dev").join(", ")})
  --fresh           up, start: wipe the data of the stack first`;

const LOG_LINES_FIRST = "30";

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      stack: { type: "string", default: "dev" },
      without: { type: "string", default: "" },
      fresh: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      force: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const [command, argument] = positionals;
  if (values.help || command === undefined) return say(HELP);
  const stack = parseStack(values.stack);
  const without = parseParts(stack, values.without);
  // What stands in the environment is looked at before anything is done; a stop must not fail for it.
  if (command !== "stop") portsOf(stack);

  switch (command) {
    case "up":
      return await up(stack, { without, fresh: values.fresh, say: sayAndSend, onReady });
    case "start": {
      const outcome = await startStack(stack, { without, fresh: values.fresh, onLine: say });
      if (outcome === "already_running")
        say(`The stack ${stack} already runs. Look at it with: ${makeCommand("status", stack)}`);
      return;
    }
    case "stop": {
      const said = {
        stopped: "is stopped",
        leftovers_ended: "is stopped (its launcher had been killed)",
        not_running: "was not running",
      };
      return say(`The stack ${stack} ${said[await stopStack(stack)]}.`);
    }
    case "status": {
      const status = await readStatus(stack);
      return say(values.json ? JSON.stringify(status, undefined, 2) : statusTable(status));
    }
    case "logs":
      return followLogs(stack, argument);
    case "reset":
      return await reset(stack, values.force);
    case "migrate":
      return await migrate(stack);
    default:
      throw new Problem(`There is no command "${command}". Mend it: see --help.`);
  }
}

function parseStack(text: string): StackName {
  if (isStackName(text)) return text;
  throw new Problem(`There is no stack "${text}". Mend it: give one of ${stackNames.join(", ")}.`);
}

function parseParts(stack: StackName, text: string): PartName[] {
  const known = partNamesOf(stack);
  return text
    .split(",")
    .filter((name) => name !== "")
    .map((name) => {
      const part = known.find((candidate) => candidate === name);
      if (part !== undefined) return part;
      throw new Problem(`The stack ${stack} has no part "${name}". Mend it: give some of ${known.join(", ")}.`);
    });
}

function followLogs(stack: StackName, part: string | undefined): void {
  const names = part === undefined ? [...partNamesOf(stack), "supervisor"] : [part];
  const files = names.map((name) => logFile(stack, name)).filter((file) => existsSync(file));
  if (files.length === 0) throw new Problem(`The stack ${stack} has no logs of ${part ?? "any part"} yet.`);
  const tail = spawn("tail", ["-n", LOG_LINES_FIRST, "-F", "--", ...files], { stdio: "inherit" });
  // Ctrl-C reaches tail as well: its end is ours.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => tail.kill());
  tail.once("exit", () => process.exit(0));
}

async function reset(stack: StackName, force: boolean): Promise<void> {
  if (!force) {
    if (!process.stdin.isTTY) throw new Problem("Wiping data asks first, and nobody can answer. Mend it: FORCE=1");
    const ask = createInterface({ input: process.stdin, output: process.stdout });
    const answer = await ask.question(`Wipe all data of the stack ${stack} in ${stackFolder(stack)}? [y/N] `);
    ask.close();
    if (!/^y(es)?$/i.test(answer.trim())) return say("Nothing was changed.");
  }
  await stopStack(stack);
  wipe(stack);
  say(`All data of the stack ${stack} are wiped.`);
}

async function migrate(stack: StackName): Promise<void> {
  if ((await readStatus(stack)).phase !== "running") {
    throw new Problem(`The stack ${stack} does not run. Mend it: start it; that migrates, too.`);
  }
  const child = spawn(process.execPath, ["infra/postgres/migrate.ts"], {
    cwd: root,
    env: { ...inheritedEnvironment(), ...migrationEnvironment(stack) },
    stdio: "inherit",
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Problem("The migrations failed: the reason stands above.");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A detached supervisor writes to its log and tells the process that started it, as long as that listens. */
function sayAndSend(line: string): void {
  say(process.send === undefined ? line : `${new Date().toISOString()} ${line}`);
  send({ line });
}

function onReady(): void {
  send("ready");
}

function send(message: SupervisorMessage): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

/** What a person is told: a Problem and a file of another user are no mistakes of the launcher. */
function explain(error: unknown): string {
  if (error instanceof Problem || !(error instanceof Error))
    return error instanceof Error ? error.message : String(error);
  return notPermitted(error) ?? error.stack ?? error.message;
}

// A closed terminal or pipe is no reason to leave the stack without its supervisor.
process.stdout.on("error", () => {});

try {
  await main();
} catch (error) {
  const text = explain(error);
  send({ failure: text });
  process.stderr.write(`${text}\n`);
  process.exitCode = 1;
}
if (process.connected) process.disconnect();
