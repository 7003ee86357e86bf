import { identify, type ProcessIdentity, processTree, signalProcess, waitForEnd } from "#infra/local/processes.mjs";

/** Descendants end with their parent; this is how long that may take before they are killed. */
const DESCENDANTS_TIMEOUT_MS = 3_000;
const KILL_TIMEOUT_MS = 5_000;

/**
 * Ends a process and all its descendants: the signal that asks it to, and SIGKILL after the given time.
 * @returns false when it had to be killed
 */
export async function endProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  timeoutMs: number,
): Promise<boolean> {
  const descendants = processTree(identity.pid)
    .slice(1)
    .flatMap((pid) => identify(pid) ?? []);
  signalProcess(identity, signal);
  const obeyed = await waitForEnd(identity, timeoutMs);
  if (!obeyed) {
    signalProcess(identity, "SIGKILL");
    await waitForEnd(identity, KILL_TIMEOUT_MS);
  }
  const deadline = Date.now() + DESCENDANTS_TIMEOUT_MS;
  for (const descendant of descendants) {
    if (await waitForEnd(descendant, Math.max(0, deadline - Date.now()))) continue;
    signalProcess(descendant, "SIGKILL");
    await waitForEnd(descendant, KILL_TIMEOUT_MS);
  }
  return obeyed;
}
