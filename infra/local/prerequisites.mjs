import { spawnSync } from "node:child_process";

/**
 * What must be on the machine before the set-up: each check answers with one line that says what is missing and how to
 * mend it, or with undefined. The environment is a parameter: the tests give a PATH of their own.
 * @typedef {Readonly<Record<string, string | undefined>>} Environment
 * @typedef {"npm" | "python" | "maven"} Tool
 */

const CHECK_TIMEOUT_MS = 20_000;
const PYTHON_MIN = [3, 10];
const JAVA_MAJOR_MIN = 17;

/**
 * @param {Environment} environment
 * @param {string} command
 * @param {string[]} args
 * @returns {{ found: boolean, ok: boolean, text: string }}
 */
function ask(environment, command, args) {
  const run = spawnSync(command, args, { env: environment, encoding: "utf8", timeout: CHECK_TIMEOUT_MS });
  const found = !(run.error !== undefined && "code" in run.error && run.error.code === "ENOENT");
  return { found, ok: run.status === 0, text: `${run.stdout ?? ""}${run.stderr ?? ""}` };
}

/** @param {Environment} environment */
function checkNpm(environment) {
  const npm = ask(environment, "npm", ["--version"]);
  return npm.ok ? undefined : "npm is missing. Mend it with: sudo apt-get install npm";
}

/** @param {Environment} environment */
function checkPython(environment) {
  const wanted = `Python ${PYTHON_MIN.join(".")} or newer`;
  const python = ask(environment, "python3", ["-c", "import sys; print(*sys.version_info[:2])"]);
  if (!python.ok) return `${wanted} is missing. Mend it with: sudo apt-get install python3 python3-venv`;
  const [major = 0, minor = 0] = python.text.trim().split(" ").map(Number);
  if (major < 3 || minor < (PYTHON_MIN[1] ?? 0))
    return `${wanted} is missing (found ${major}.${minor}). Mend it: put a newer python3 first on PATH`;
  // Debian ships Python without ensurepip, and says so only when a venv is made.
  const venv = ask(environment, "python3", ["-c", "import venv, ensurepip"]);
  return venv.ok ? undefined : "Python's venv is missing. Mend it with: sudo apt-get install python3-venv";
}

/** @param {Environment} environment */
function checkMaven(environment) {
  // Java's statistics would be written below /tmp.
  const maven = ask({ ...environment, MAVEN_OPTS: "-XX:-UsePerfData" }, "mvn", ["-v"]);
  if (!maven.found) return "Maven is missing. Mend it with: sudo apt-get install maven";
  const java = /Java version: (?:1\.)?(\d+)/.exec(maven.text)?.[1];
  const remedy = `Mend it with: sudo apt-get install openjdk-${JAVA_MAJOR_MIN}-jdk-headless, or point JAVA_HOME at one`;
  if (java === undefined) return `Maven finds no Java (mvn -v fails). ${remedy}`;
  if (Number(java) >= JAVA_MAJOR_MIN) return undefined;
  return `Java ${JAVA_MAJOR_MIN} or newer is missing (Maven runs on Java ${java}). ${remedy}`;
}

const TOOL_CHECKS = { npm: checkNpm, python: checkPython, maven: checkMaven };

/**
 * The lines for those of the wanted tools that are missing; empty when all are there.
 * @param {Environment} environment
 * @param {readonly Tool[]} tools
 */
export function missingTools(environment, tools) {
  return tools.map((tool) => TOOL_CHECKS[tool](environment)).filter((line) => line !== undefined);
}

/**
 * Everything comes as binaries for one kind of machine.
 * @param {string} platform as in process.platform
 * @param {string} architecture as in process.arch
 */
export function wrongMachine(platform, architecture) {
  if (platform === "linux" && architecture === "x64") return undefined;
  return `This is ${platform} on ${architecture}; the servers come as binaries for Linux on x64. Mend it: use such a machine or virtual machine.`;
}
