import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { run } from "node:test";
import { parseArgs } from "node:util";

/**
 * The README's test command: starts a stack of its own (`test`: own ports, own data, wiped first), runs every test file in
 * a process of its own with a deadline, stops the stack, and ends with `N passed, N failed`.
 *
 * It fails when a test failed, was skipped, is `todo` or `only`, when a file held no test, and when there was none at all.
 */
const FILE_DEADLINE_MS = 180_000;
const MS_PER_MINUTE = 60_000;
const FILES = ["lib", "cli", "services", "gateway", "infra", "bench", "tests"].map(
  (folder) => `${folder}/**/*.test.ts`,
);
/**
 * They kill parts of the stack, hold up what others wait for, or expect the history at once: one at a time, after the others.
 * By their name, or by a comment that says why.
 */
const ALONE_BY_NAME = /\/(crash-[a-z-]+|launcher|readme|demo)\.test\.ts$/;
const ALONE_BY_COMMENT = "// Runs alone: ";
const HELP = `Usage: make test, or node tests/run.ts [--keep] [--no-stack] [--deadline-minutes N] [PATTERN...]

  PATTERN     only test files whose path contains one of these
  --keep      leave the stack running at the end
  --no-stack  the stack "test" runs already (or the tests need none)
  --deadline-minutes N  what a file may take; 3 when not given
  --help      this text
`;

interface Counts {
  passed: number;
  failed: number;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    keep: { type: "boolean" },
    "no-stack": { type: "boolean" },
    "deadline-minutes": { type: "string" },
    help: { type: "boolean" },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const deadlineMinutes = values["deadline-minutes"];
const fileDeadlineMs = deadlineMinutes === undefined ? FILE_DEADLINE_MS : Number(deadlineMinutes) * MS_PER_MINUTE;
process.exitCode = await main();

async function main(): Promise<number> {
  const files = FILES.flatMap((pattern) => globSync(pattern))
    .filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)))
    .sort();
  const counts: Counts = { passed: 0, failed: 0 };
  const ownStack = values["no-stack"] !== true;
  if (ownStack && (await launcher(["start", "--stack", "test", "--fresh"])) !== 0) {
    process.stdout.write("the test stack did not start\n0 passed, 1 failed\n");
    return 1;
  }
  try {
    await runFiles(
      files.filter((file) => !runsAlone(file)),
      Math.max(1, Math.min(2, availableParallelism())),
      counts,
    );
    await runFiles(files.filter(runsAlone), 1, counts);
  } finally {
    if (ownStack && values.keep !== true && (await launcher(["stop", "--stack", "test"])) !== 0) counts.failed += 1;
  }
  if (counts.passed + counts.failed === 0) {
    process.stdout.write("no test ran\n");
    counts.failed = 1;
  }
  process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`);
  return counts.failed === 0 ? 0 : 1;
}

function runsAlone(file: string): boolean {
  return ALONE_BY_NAME.test(file) || readFileSync(file, "utf8").includes(ALONE_BY_COMMENT);
}

/** Runs files side by side, one process each; prints a line per test that failed and per file. */
async function runFiles(files: readonly string[], concurrency: number, counts: Counts): Promise<void> {
  if (files.length === 0) return;
  const perFile = new Map<string, Counts & { ms: number }>(
    files.map((file) => [file, { passed: 0, failed: 0, ms: 0 }]),
  );
  const events = run({
    files: [...files],
    concurrency,
    timeout: fileDeadlineMs,
    isolation: "process",
    cwd: process.cwd(),
  });
  const fileOf = (path: string | undefined) => files.find((file) => path?.endsWith(file) === true) ?? "";
  for await (const { type, data } of events) {
    if (type === "test:stderr" || type === "test:stdout") process.stderr.write(data.message);
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.details.type === "suite") continue;
    // A file without tests reports itself as one that passed.
    if (type === "test:pass" && data.file !== undefined && data.file.endsWith(data.name)) continue;
    const file = perFile.get(fileOf(data.file)) ?? { passed: 0, failed: 0, ms: 0 };
    file.ms += data.details.duration_ms;
    const left = data.skip !== undefined ? "skipped" : data.todo !== undefined ? "todo" : undefined;
    if (type === "test:pass" && left === undefined) {
      file.passed += 1;
      counts.passed += 1;
      continue;
    }
    file.failed += 1;
    counts.failed += 1;
    process.stdout.write(`\nFAILED ${data.file ?? ""}: ${data.name}${left === undefined ? "" : ` (${left})`}\n`);
    if (type === "test:fail") process.stdout.write(`${describe(data.details.error)}\n\n`);
  }
  for (const [file, { passed, failed, ms }] of perFile) {
    if (passed + failed === 0) {
      counts.failed += 1;
      process.stdout.write(`FAILED ${file}: holds no test\n`);
    } else {
      process.stdout.write(
        `${failed === 0 ? "ok    " : "FAILED"} ${file}  ${passed} passed, ${failed} failed  ${(ms / 1000).toFixed(1)} s\n`,
      );
    }
  }
}

function describe(error: Error): string {
  const cause = error.cause;
  return cause instanceof Error
    ? (cause.stack ?? cause.message)
    : `${error.message}${cause === undefined ? "" : `\n${String(cause)}`}`;
}

function launcher(parameters: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, ["infra/local/main.ts", ...parameters], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  return new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
}
