import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { Gauge } from "prom-client";
import { Defect } from "#lib/refusal.ts";
import type { Result, Task } from "#services/identity/password-worker.ts";
import { refusals } from "#services/identity/refusals.ts";

/**
 * Argon2id in threads of its own: each hash keeps a processor and 19 MiB busy for some 20 ms. There are as many threads as
 * processors, of a lower priority than everything else; the next hashes wait in a queue, and what finds it full is refused at once.
 */
export interface PasswordHashing {
  /** A hash in the text form that names its parameters. Throws SIGN_IN_OVERLOADED. */
  hash(password: string): Promise<string>;
  /**
   * Whether the password is the one of the hash; without a hash (nobody has this address) it takes the same time and answers
   * false. Throws SIGN_IN_OVERLOADED.
   */
  verify(passwordHash: string | undefined, password: string): Promise<boolean>;
  stop(): Promise<void>;
}

const THREADS = Math.min(availableParallelism(), 4);
const MAX_WAITING = 64;

const waitingHashes = new Gauge({ name: "identity_waiting_password_hashes", help: "Password hashes that wait" });

interface Job {
  readonly task: Task;
  readonly resolve: (value: string | boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Hashes once at the start, for the time that an unknown address takes. */
export async function passwordHashing(): Promise<PasswordHashing> {
  const waiting: Job[] = [];
  const idle: Worker[] = [];
  const busy = new Map<Worker, Job>();
  let stopping = false;

  async function startThread(): Promise<void> {
    const worker = new Worker(new URL("password-worker.ts", import.meta.url));
    worker.on("message", (result: Result) => {
      const job = busy.get(worker);
      busy.delete(worker);
      next(worker);
      if (job === undefined) return;
      if ("value" in result) job.resolve(result.value);
      else job.reject(new Defect(`a password could not be hashed: ${result.error}`));
    });
    worker.on("error", (error) => {
      busy.get(worker)?.reject(error);
      busy.delete(worker);
      if (!stopping) void startThread();
    });
    await once(worker, "online");
    next(worker);
  }

  /** Gives an idle thread the job that waits for the longest. */
  function next(worker: Worker): void {
    const job = waiting.shift();
    waitingHashes.set(waiting.length);
    if (job === undefined) idle.push(worker);
    else start(worker, job);
  }

  function start(worker: Worker, job: Job): void {
    busy.set(worker, job);
    worker.postMessage(job.task);
  }

  function run(task: Task): Promise<string | boolean> {
    return new Promise((resolve, reject) => {
      const job = { task, resolve, reject };
      const worker = idle.pop();
      if (worker !== undefined) start(worker, job);
      else if (waiting.length >= MAX_WAITING) reject(refusals.passwordsOverloaded());
      else waitingHashes.set(waiting.push(job));
    });
  }

  const hash = async (password: string) => (await run({ kind: "hash", password })) as string;
  await Promise.all(Array.from({ length: THREADS }, startThread));
  const nobodys = await hash("nobody has this password");
  return {
    hash,
    async verify(passwordHash, password) {
      const matches = (await run({ kind: "verify", passwordHash: passwordHash ?? nobodys, password })) as boolean;
      return matches && passwordHash !== undefined;
    },
    async stop() {
      stopping = true;
      await Promise.all([...idle, ...busy.keys()].map((worker) => worker.terminate()));
    },
  };
}
