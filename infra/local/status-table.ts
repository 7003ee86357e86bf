import Table from "cli-table3";
import { makeCommand } from "#infra/local/make-command.ts";
import type { StackStatus } from "#infra/local/status.ts";

const BYTES_PER_MB = 1024 * 1024;
const NO_BORDERS = Object.fromEntries(
  [
    "top",
    "top-mid",
    "top-left",
    "top-right",
    "bottom",
    "bottom-mid",
    "bottom-left",
    "bottom-right",
    "left",
    "left-mid",
    "mid",
    "mid-mid",
    "right",
    "right-mid",
  ].map((name) => [name, ""]),
);

/** The status as lines for people. */
export function statusTable(status: StackStatus): string {
  if (status.phase === "stopped")
    return `The stack ${status.stack} is stopped. Start it with: ${makeCommand("start", status.stack)}`;
  const table = new Table({
    head: ["PART", "STATE", "PID", "PORT", "UP", "RESTARTS", "MEMORY MB"],
    chars: { ...NO_BORDERS, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colAligns: ["left", "left", "right", "left", "right", "right", "right"],
  });
  for (const part of status.parts) {
    table.push([
      part.name,
      part.state,
      part.pid ?? "",
      Object.values(part.ports).join(" "),
      part.uptimeSeconds === undefined ? "" : duration(part.uptimeSeconds),
      part.restarts,
      part.pid === undefined ? "" : megabytes(part.memoryBytes),
    ]);
  }
  const reasons = status.parts.flatMap((part) => (part.reason === undefined ? [] : [`${part.name}: ${part.reason}`]));
  const restarts = status.parts.reduce((sum, part) => sum + part.restarts, 0);
  const total = `stack ${status.stack} is ${status.phase}: ${status.parts.length} parts, ${restarts} restarts, ${megabytes(status.memoryBytes)} MB with the launcher`;
  const remedy =
    status.phase === "orphaned"
      ? [`Its launcher was killed. End what is left with: ${makeCommand("stop", status.stack)}`]
      : [];
  return [table.toString(), "", total, ...reasons, ...remedy].join("\n");
}

const megabytes = (bytes: number) => String(Math.round(bytes / BYTES_PER_MB));

function duration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
