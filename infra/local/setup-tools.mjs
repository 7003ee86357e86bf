import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { root, setupLogFolder, toolsFolder } from "#infra/local/paths.mjs";
import { identify, signalProcess, waitForEnd } from "#infra/local/processes.mjs";

/**
 * Runs the tools of others (npm, pip, Maven, buf): output to a log file, an error with its end when one fails, and none
 * left running. Each leads a process group of its own, which is written down, so that the next set-up can end it when
 * this one was killed.
 * @typedef {import("#infra/local/processes.mjs").ProcessIdentity} ProcessIdentity
 */

const LOG_LINES_SHOWN = 15;
const STOP_TIMEOUT_MS = 5_000;
/** A tool that takes longer hangs, or the network is too slow for this. */
const TOOL_TIMEOUT_MS = 10 * 60_000;
const runningFile = join(toolsFolder, "setup-running.json");

/** @type {Map<number, ProcessIdentity>} */
const running = new Map();

function writeRunning() {
  mkdirSync(toolsFolder, { recursive: true });
  writeFileSync(runningFile, JSON.stringify([...running.values()]));
}

/** A failure that a person can act on: printed without a stack trace. */
export class SetupError extends Error {}
/** A tool failed; its message holds the end of the tool's output. */
export class ToolError extends SetupError {}

let ending = false;

/**
 * @param {string} logName the log is .local/logs/setup-NAME.log; a step's tools append to the same one
 * @param {string} command
 * @param {string[]} args
 * @param {{ environment: Record<string, string | undefined>, cwd?: string, remedy: string }} options
 * @returns {Promise<void>}
 */
export function runTool(logName, command, args, options) {
  if (ending) return Promise.reject(new SetupError("The set-up was interrupted."));
  mkdirSync(setupLogFolder, { recursive: true });
  const logFile = join(setupLogFolder, `setup-${logName}.log`);
  const log = openSync(logFile, "a");
  writeFileSync(log, `\n$ ${[basename(command), ...args].join(" ")}\n`);
  return new Promise((resolve, reject) => {
    /** @param {string} what */
    const fail = (what) => {
      if (ending) return reject(new SetupError("The set-up was interrupted."));
      const tail = readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-LOG_LINES_SHOWN).join("\n");
      reject(new ToolError(`${tail}\n\n${what}. ${options.remedy} All of its output: ${logFile}`));
    };
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: options.environment,
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (identity !== undefined) {
      running.set(identity.pid, identity);
      writeRunning();
    }
    const timer = setTimeout(() => {
      writeFileSync(logFile, `\nended after ${TOOL_TIMEOUT_MS / 60_000} minutes\n`, { flag: "a" });
      if (identity !== undefined) void endGroups([identity]);
    }, TOOL_TIMEOUT_MS);
    child.once("error", (error) => fail(`${basename(command)} could not be started (${error.message})`));
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      if (identity !== undefined) {
        running.delete(identity.pid);
        writeRunning();
      }
      if (code === 0) resolve();
      else fail(`${basename(command)} failed (${signal ?? `exit code ${code}`})`);
    });
  });
}

/** Starts the log of a step anew. @param {string} logName */
export function clearLog(logName) {
  rmSync(join(setupLogFolder, `setup-${logName}.log`), { force: true });
}

/** @param {Iterable<ProcessIdentity>} identities */
async function endGroups(identities) {
  const all = [...identities];
  for (const identity of all) signalProcess(identity, "SIGTERM", "group");
  for (const identity of all) {
    if (!(await waitForEnd(identity, STOP_TIMEOUT_MS))) signalProcess(identity, "SIGKILL", "group");
  }
}

/** Ends the tools of this set-up, and lets none start any more. */
export function endTools() {
  ending = true;
  return endGroups(running.values());
}

/** Ends what a killed set-up left running. Only for the holder of the set-up's lock. */
export async function endLeftoverTools() {
  let text;
  try {
    text = readFileSync(runningFile, "utf8");
  } catch {
    return;
  }
  await endGroups(/** @type {ProcessIdentity[]} */ (JSON.parse(text || "[]")));
}
