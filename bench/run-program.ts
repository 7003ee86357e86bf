import { spawn } from "node:child_process";

/** How a program ended. */
export interface Ended {
  /** Absent when it could not be started, or was ended by a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Why it has no exit code. */
  readonly failure: string;
}

interface Options {
  readonly cwd?: URL;
  readonly env?: NodeJS.ProcessEnv;
  /** Milliseconds, after which it is ended. */
  readonly timeout?: number;
}

/** Runs a program to its end, or until the signal. Never throws. */
export function runProgram(
  command: string,
  args: readonly string[],
  signal: AbortSignal,
  options: Options,
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { ...options, signal, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let failure = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error) => {
      failure = error.message;
      // Not found: there will be no "close".
      if (child.pid === undefined) resolve({ code: null, stdout, stderr, failure });
    });
    child.on("close", (code, ending) => resolve({ code, stdout, stderr, failure: failure || `ended by ${ending}` }));
  });
}
