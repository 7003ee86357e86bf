import { copyFileSync, readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { logFolder } from "#infra/local/folders.ts";
import type { StackName } from "#infra/local/ports.ts";

const CHECK_INTERVAL_MS = 30_000;
const LOG_MAX_BYTES = 32 * 1024 * 1024;

/** Keeps each log of a stack and one older part of it, `NAME.log.1`, near a bound; runs until the timer is cleared. */
export function rotateLogs(stack: StackName): NodeJS.Timeout {
  rotateNow(logFolder(stack), LOG_MAX_BYTES);
  return setInterval(() => rotateNow(logFolder(stack), LOG_MAX_BYTES), CHECK_INTERVAL_MS);
}

/**
 * The processes have their logs open for appending, so a log is emptied, not replaced: they go on at its new end.
 * A line that is written between the copy and the cut is lost.
 */
export function rotateNow(folder: string, maxBytes: number): void {
  for (const name of readdirSync(folder)) {
    const file = join(folder, name);
    if (!name.endsWith(".log") || statSync(file).size <= maxBytes) continue;
    try {
      copyFileSync(file, `${file}.1`);
    } catch {
      // A full disk: the room is worth more than the old lines.
    }
    truncateSync(file);
  }
}
