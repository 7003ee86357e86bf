import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { hashSync, verifySync } from "@node-rs/argon2";

/** A thread that hashes passwords, one at a time. password-hashing.ts says which, and how many threads there are. */
export type Task =
  | { readonly kind: "hash"; readonly password: string }
  | { readonly kind: "verify"; readonly password: string; readonly passwordHash: string };
export type Result = { readonly value: string | boolean } | { readonly error: string };

/** OWASP's recommendation: m = 19 MiB, t = 2, p = 1. The library takes Argon2id unless told otherwise. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
/** Of this thread alone: who moves money goes first. */
const NICENESS = 5;

if (parentPort !== null) {
  const port = parentPort;
  setPriority(0, NICENESS);
  port.on("message", (task: Task) => {
    let result: Result;
    try {
      result = { value: work(task) };
    } catch (error) {
      result = { error: error instanceof Error ? error.message : String(error) };
    }
    port.postMessage(result);
  });
}

function work(task: Task): string | boolean {
  switch (task.kind) {
    case "hash":
      return hashSync(task.password, PARAMETERS);
    case "verify":
      return verifySync(task.passwordHash, task.password);
  }
}
