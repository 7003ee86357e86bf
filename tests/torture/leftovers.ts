import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { identify, type ProcessIdentity, processTree, signalProcess } from "#infra/local/processes.mjs";
import { runFolder } from "#tests/torture/history.ts";

/** What a run that was killed leaves behind: for the process that started it. */

const identitiesFile = join(runFolder, "processes.json");

/** Notes the further processes that run now. */
export function saveIdentities(identities: readonly ProcessIdentity[]): void {
  writeFileSync(identitiesFile, JSON.stringify(identities));
}

/** Ends further processes that are left. */
export function endLeftProcesses(): void {
  let left: ProcessIdentity[];
  try {
    left = JSON.parse(readFileSync(identitiesFile, "utf8"));
  } catch {
    return;
  }
  for (const one of left) signalProcess(one, "SIGKILL");
}

/** Lets every process of a stack go on that was left stopped, lest its stop waits for them. */
export function resumeStack(supervisorPid: number): void {
  for (const pid of processTree(supervisorPid).slice(1)) {
    const one = identify(pid);
    if (one !== undefined) signalProcess(one, "SIGCONT");
  }
}
