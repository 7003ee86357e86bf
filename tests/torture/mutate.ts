import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { localFolder, root } from "#infra/local/paths.mjs";
import { runEnvironment } from "#tests/torture/config.ts";
import { type Mutation, mutations } from "#tests/torture/mutations.ts";

/**
 * Breaks a step of the code in a copy of the checkout, and lets torture look for it. A mutation that is not found says
 * that torture is too weak.
 */
const HELP = `Usage: node tests/torture/mutate.ts [options] NAME... | all

  NAME         ${mutations.map(({ name }) => name).join("\n               ")}
  --minutes M  of torture for each (default 1)
  --seed N     of the first run (default 1)
  --runs N     so often at most, with the seeds that follow, until it is found (default 3)
  --help       this text

Works in .local/mutation, and on the stack torture there, with the same ports. Exit status: 0 all were found, 1 one was not.
`;
const SAID_LENGTH = 400_000;
const folder = join(localFolder, "mutation");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    runs: { type: "string", default: "3" },
    help: { type: "boolean", default: false },
  },
});

/** Ctrl-C ends the torture under way in order, and then this. */
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupted.abort());

process.exitCode = await main();

async function main(): Promise<number> {
  const wanted = positionals.includes("all") ? mutations : mutations.filter(({ name }) => positionals.includes(name));
  if (values.help || wanted.length === 0) {
    process.stdout.write(HELP);
    return values.help ? 0 : 1;
  }
  let status = 0;
  for (const mutation of wanted) {
    if (!(await isFound(mutation))) status = 1;
    if (interrupted.signal.aborted) return 130;
  }
  return status;
}

async function isFound(mutation: Mutation): Promise<boolean> {
  copyCheckout();
  for (const { file, from, to } of mutation.edits) {
    const text = readFileSync(join(folder, file), "utf8");
    if (text.split(from).length !== 2) throw new Error(`${mutation.name}: ${file} does not hold once: ${from}`);
    writeFileSync(
      join(folder, file),
      text.replace(from, () => to),
    );
  }
  for (let run = 0; run < Number(values.runs); run += 1) {
    const seed = Number(values.seed) + run;
    const said = await torture(seed);
    const [first] = said.split("\n").filter((line) => line.includes("FOUND  "));
    if (interrupted.signal.aborted) return false;
    if (first === undefined) continue;
    // With the time since the beginning, when it was found before the end.
    say(`${mutation.name}: seed ${seed}, found: ${first.trim().slice(0, 300)}`);
    return true;
  }
  say(`${mutation.name}: NOT FOUND in ${values.runs} runs of ${values.minutes} minutes. ${mutation.what}`);
  return false;
}

/** What the checkout holds as it is now, committed or not; what was installed is shared. */
function copyCheckout(): void {
  rmSync(folder, { recursive: true, force: true });
  const listed = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root });
  for (const file of [...listed.stdout.toString().split("\0"), "generated"]) {
    if (file === "") continue;
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(root, file), join(folder, file), { recursive: true });
  }
  mkdirSync(join(folder, ".local"), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  symlinkSync(join(localFolder, "tools"), join(folder, ".local", "tools"));
}

/** Answers all that was said. */
function torture(seed: number): Promise<string> {
  const args = ["--seed", String(seed), "--minutes", String(values.minutes), "--without", "elasticsearch", "--first"];
  const child = spawn(process.execPath, [join(folder, "tests/torture/main.ts"), ...args], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: runEnvironment("torture"),
  });
  let said = "";
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-SAID_LENGTH);
    });
  }
  interrupted.signal.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
  return new Promise((resolve) =>
    child.once("close", (code) => {
      if (interrupted.signal.aborted) return resolve(said);
      const failedToRun = code !== 0 && !said.includes("FOUND  ");
      if (failedToRun) say(`the run ended with ${code}: ${said.slice(-1_000)}`);
      resolve(said);
    }),
  );
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
