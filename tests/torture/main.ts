import { spawn } from "node:child_process";
import { join } from "node:path";
import { lockFile } from "#infra/local/folders.ts";
import { lockHolder } from "#infra/local/lock.mjs";
import { Problem } from "#infra/local/problem.ts";
import { type PartName, startStack, stopStack } from "#infra/local/stack.ts";
import { runEnvironment } from "#tests/torture/config.ts";
import { endLeftProcesses, resumeStack } from "#tests/torture/leftovers.ts";
import { HELP, type Options, parseOptions, toArguments } from "#tests/torture/options.ts";

/**
 * `make torture`: starts the stack `torture`, lets run.ts do its worst to it in a process of its own, and stops everything
 * again, however that ended.
 */
const STACK = "torture";
/** What a run takes beside its faults: opening accounts, quiet points, checks. */
const EXTRA_MS = 8 * 60_000;
const EXTRA_PER_FAULT_MS = 1.5;
const INTERRUPTED = 130;
const END_TIMEOUT_MS = 30_000;

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Problem ? error.message : describe(error)}\n`);
  return 1;
});

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const say = (line: string) => process.stderr.write(`${line}\n`);
  say(`Torture with seed ${options.seed} for ${options.minutes} minutes.`);
  const without: PartName[] = ["gateway", "reporting", "mail", "identity"];
  if (!options.withElasticsearch) without.push("elasticsearch", "projector");
  const started = await startStack(STACK, { fresh: true, without, onLine: say });
  if (started === "already_running") {
    throw new Problem(`The stack ${STACK} runs already. Mend it: make stop STACK=${STACK}`);
  }
  let status = 1;
  try {
    status = await run(options);
  } finally {
    await stop();
  }
  const ended = status === 0 ? "All held" : status === INTERRUPTED ? "Interrupted" : "FAILED";
  say(`${ended}: torture with seed ${options.seed}. The same again: ${again(options)}`);
  return status;
}

/** Runs run.ts to its end, or to the end of its time; a Ctrl-C ends it. */
async function run(options: Options): Promise<number> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "run.ts"), ...toArguments(options)], {
    stdio: ["ignore", "inherit", "inherit"],
    env: runEnvironment(STACK),
  });
  let late = false;
  const end = () => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), END_TIMEOUT_MS).unref();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, end);
  const deadline = setTimeout(
    () => {
      late = true;
      end();
    },
    options.minutes * 60_000 * EXTRA_PER_FAULT_MS + EXTRA_MS,
  );
  const status = await new Promise<number>((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
  clearTimeout(deadline);
  if (late) process.stderr.write("FOUND  the run did not end in its time\n");
  return status;
}

async function stop(): Promise<void> {
  endLeftProcesses();
  const supervisor = lockHolder(lockFile(STACK));
  if (supervisor !== undefined) resumeStack(supervisor.pid);
  await stopStack(STACK);
}

function again({ seed, minutes, withElasticsearch }: Options): string {
  return `node tests/torture/main.ts --seed ${seed} --minutes ${minutes}${withElasticsearch ? "" : " --without elasticsearch"}`;
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
