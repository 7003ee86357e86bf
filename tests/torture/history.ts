import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { localFolder } from "#infra/local/paths.mjs";
import { type Order, type Unkeyed, withKey } from "#tests/torture/orders.ts";

/**
 * What the clients asked for and what they were told: kept here, and appended to a file for those who study a failure.
 * A command is one idempotency key; it may be sent any number of times, at once too.
 */
export interface Command {
  readonly key: string;
  /** Which row of the table of workloads it is from. */
  readonly workload: string;
  readonly order: Order;
  readonly attempts: Attempt[];
}

export interface Attempt {
  /** Which ledger process was asked. */
  readonly ledger: string;
  /** By `Date.now()`. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly answer: Answer;
}

/** A balance as it was acknowledged. */
export interface AcknowledgedBalance {
  readonly accountId: string;
  readonly postedMinorUnits: bigint;
}

export type Answer =
  | {
      readonly kind: "posted";
      readonly transferId: string;
      readonly balances: readonly AcknowledgedBalance[];
      readonly pendingAccountIds: readonly string[];
      readonly replayed: boolean;
    }
  /** Made something else, or changed something: a hold, a quote, an account. */
  | { readonly kind: "changed"; readonly resourceId: string; readonly replayed: boolean }
  /** A business refusal: remembered under the key. */
  | { readonly kind: "refused"; readonly reason: string; readonly replayed: boolean }
  /** The request was wrong, or its key was used for another: nothing has happened, and nothing is remembered. */
  | { readonly kind: "rejected"; readonly reason: string }
  /** UNAVAILABLE with a reason: this call has changed nothing. */
  | { readonly kind: "not_done"; readonly reason: string }
  /** Nobody knows: PROCESSING, a time-out, a connection that broke. */
  | { readonly kind: "unknown"; readonly reason: string }
  /** INTERNAL: a defect, whatever else holds. */
  | { readonly kind: "defect"; readonly reason: string };

/** Answers that decide a command for ever. */
export type FinalAnswer = Extract<Answer, { kind: "posted" | "changed" | "refused" }>;

export function isFinal(answer: Answer): answer is FinalAnswer {
  return answer.kind === "posted" || answer.kind === "changed" || answer.kind === "refused";
}

/** Whether its client need not ask again. */
export function isAnswered({ attempts }: Command): boolean {
  return attempts.some(({ answer }) => isFinal(answer) || answer.kind === "rejected");
}

/** Something that must not be, with the ids to look for. */
export interface Finding {
  readonly what: string;
  readonly ids: readonly string[];
}

export interface History {
  /** Commands since the last `forget`. */
  readonly commands: () => readonly Command[];
  readonly open: (workload: string, order: Unkeyed) => Command;
  readonly note: (command: Command, attempt: Attempt) => void;
  /** So many answers of each kind so far. */
  readonly counts: () => Readonly<Record<Answer["kind"], number>>;
  /** Anything else worth a line in the file. */
  readonly write: (line: Readonly<Record<string, unknown>>) => void;
  /** Lets go of commands that are checked; the file keeps them. */
  readonly forget: () => void;
  readonly file: string;
}

/** The folder of the newest run. */
export const runFolder = join(localFolder, "torture-run");

export function openHistory(seed: number): History {
  rmSync(runFolder, { recursive: true, force: true });
  mkdirSync(runFolder, { recursive: true });
  const file = join(runFolder, "history.jsonl");
  writeFileSync(file, "");
  const write = (line: Readonly<Record<string, unknown>>) => appendFileSync(file, `${toJson(line)}\n`);
  write({ seed, startedAt: new Date() });
  const counts = { posted: 0, changed: 0, refused: 0, rejected: 0, not_done: 0, unknown: 0, defect: 0 };
  let commands: Command[] = [];
  let opened = 0;
  return {
    commands: () => commands,
    open(workload, order) {
      opened += 1;
      const key = `torture-${seed}-${opened}`;
      const command = { key, workload, order: withKey(order, key), attempts: [] };
      commands.push(command);
      write({ key, workload, ...order });
      return command;
    },
    note(command, attempt) {
      command.attempts.push(attempt);
      counts[attempt.answer.kind] += 1;
      write({ key: command.key, ...attempt });
    },
    counts: () => counts,
    write,
    forget() {
      commands = [];
    },
    file,
  };
}

export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? part.toString() : part));
}
