import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { inheritedEnvironment } from "#infra/local/config.ts";
import type { Command } from "#infra/local/parts.ts";
import { root } from "#infra/local/paths.mjs";
import { identify, type ProcessIdentity } from "#infra/local/processes.mjs";

export interface Child {
  readonly identity: ProcessIdentity;
  /** How it ended, in words; `code` is null when a signal ended it. */
  readonly ended: Promise<{ readonly code: number | null; readonly text: string }>;
}

/**
 * Starts a command with its output appended to a log file. It leads a session of its own, so that a Ctrl-C or a closed
 * terminal reaches the supervisor alone, which stops everything in order.
 * Throws when the command cannot be started.
 */
export function startChild(command: Command, log: string): Child {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, "a");
  const child = spawn(command.command, [...command.args], {
    cwd: command.cwd ?? root,
    env: { ...inheritedEnvironment(), ...command.environment },
    stdio: ["ignore", output, output],
    detached: true,
    ...(command.uid === undefined ? {} : { uid: command.uid }),
    ...(command.gid === undefined ? {} : { gid: command.gid }),
  });
  closeSync(output);
  const ended = endOf(child);
  // Node reaps a child only after this turn of its loop, so that even one that ended at once still has its identity.
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  if (identity === undefined) throw new Error(`${command.command} cannot be started: is it there?`);
  return { identity, ended };
}

function endOf(child: ChildProcess): Child["ended"] {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve({ code: null, text: error.message }));
    child.once("exit", (code, signal) => resolve({ code, text: signal ?? `exit code ${code}` }));
  });
}

/** The end of a log file, for the message about a failure. */
export function lastLines(log: string, count: number): string {
  try {
    return readFileSync(log, "utf8").trimEnd().split("\n").slice(-count).join("\n");
  } catch {
    return "";
  }
}
