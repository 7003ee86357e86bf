import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { Gauge } from "prom-client";
import { Defect } from "#lib/refusal.ts";
import type { Result, Task } from "#services/identity/password-worker.ts";
import { refusals } from "#services/identity/refusals.ts";

/**
 * Argon2id in threads of its own: each hash keeps a processor and 19 MiB busy for some 20 ms. There are as many threads as
 * processors, of a lower priority than everything else. The next hashes wait in lanes, one per client address, which take turns: who
 * sends many waits for themselves. What finds its lane or all of them full, or has waited for longer than anybody does, is refused.
 */
export interface PasswordHashing {
  /** A hash in the text form that names its parameters. Throws SIGN_IN_OVERLOADED. */
  hash(password: string, lane: string): Promise<string>;
  /**
   * Whether the password is the one of the hash; without a hash (nobody has this address) it takes the same time and answers
   * false. Throws SIGN_IN_OVERLOADED.
   */
  verify(passwordHash: string | undefined, password: string, lane: string): Promise<boolean>;
  stop(): Promise<void>;
}

const THREADS = Math.min(availableParallelism(), 4);
const MAX_WAITING = 256;
const MAX_WAITING_PER_LANE = 64;
/** The gateway gives a call 6 s. */
const MAX_WAIT_MS = 4_000;

const waitingHashes = new Gauge({ name: "identity_waiting_password_hashes", help: "Password hashes that wait" });

interface Job {
  readonly sinceMs: number;
  readonly task: Task;
  readonly resolve: (value: string | boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Hashes once at the start, for the time that an unknown address takes. */
export async function passwordHashing(): Promise<PasswordHashing> {
  /** In the order of their turns; none is empty. */
  const lanes = new Map<string, Job[]>();
  let waiting = 0;
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

  /** Gives an idle thread the first job of the lane whose turn it is. */
  function next(worker: Worker): void {
    for (;;) {
      const job = takeJob();
      if (job === undefined) {
        idle.push(worker);
        return;
      }
      if (performance.now() - job.sinceMs <= MAX_WAIT_MS) {
        start(worker, job);
        return;
      }
      job.reject(refusals.passwordsOverloaded());
    }
  }

  function takeJob(): Job | undefined {
    const [first] = lanes;
    if (first === undefined) return undefined;
    const [lane, jobs] = first;
    const job = jobs.shift();
    // To the end of the order.
    lanes.delete(lane);
    if (jobs.length > 0) lanes.set(lane, jobs);
    waiting -= 1;
    waitingHashes.set(waiting);
    return job;
  }

  function enqueue(lane: string, job: Job): void {
    const jobs = lanes.get(lane) ?? [];
    if (waiting >= MAX_WAITING || jobs.length >= MAX_WAITING_PER_LANE) throw refusals.passwordsOverloaded();
    jobs.push(job);
    lanes.set(lane, jobs);
    waiting += 1;
    waitingHashes.set(waiting);
  }

  function start(worker: Worker, job: Job): void {
    busy.set(worker, job);
    worker.postMessage(job.task);
  }

  function run(task: Task, lane: string): Promise<string | boolean> {
    return new Promise((resolve, reject) => {
      const job = { task, resolve, reject, sinceMs: performance.now() };
      const worker = idle.pop();
      if (worker === undefined) enqueue(lane, job);
      else start(worker, job);
    });
  }

  const hash = async (password: string, lane: string) => (await run({ kind: "hash", password }, lane)) as string;
  await Promise.all(Array.from({ length: THREADS }, startThread));
  const nobodys = await hash("nobody has this password", "");
  return {
    hash,
    async verify(passwordHash, password, lane) {
      const task = { kind: "verify", passwordHash: passwordHash ?? nobodys, password } as const;
      const matches = (await run(task, lane)) as boolean;
      return matches && passwordHash !== undefined;
    },
    async stop() {
      stopping = true;
      await Promise.all([...idle, ...busy.keys()].map((worker) => worker.terminate()));
    },
  };
}
