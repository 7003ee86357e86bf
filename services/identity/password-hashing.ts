import { availableParallelism } from "node:os";
import { hash, verify } from "@node-rs/argon2";
import { Gauge } from "prom-client";
import { refusals } from "#services/identity/refusals.ts";

/**
 * Argon2id with a limit of its own: each hash keeps a processor and 19 MiB busy for some 20 ms, so only as many run at once as
 * there are processors, the next wait in a queue, and what finds it full is refused at once.
 */
export interface PasswordHashing {
  /** A hash in the text form that names its parameters. Throws SIGN_IN_OVERLOADED. */
  hash(password: string): Promise<string>;
  /**
   * Whether the password is the one of the hash; without a hash (nobody has this address) it takes the same time and answers
   * false. Throws SIGN_IN_OVERLOADED.
   */
  verify(passwordHash: string | undefined, password: string): Promise<boolean>;
}

/** OWASP's recommendation: m = 19 MiB, t = 2, p = 1. The library takes Argon2id unless told otherwise. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const MAX_RUNNING = Math.min(availableParallelism(), 4);
const MAX_WAITING = 64;

const waitingHashes = new Gauge({ name: "identity_waiting_password_hashes", help: "Password hashes that wait" });

/** Hashes once at the start, for the time that an unknown address takes. */
export async function passwordHashing(): Promise<PasswordHashing> {
  const nobodys = await hash("nobody has this password", PARAMETERS);
  const waiting: (() => void)[] = [];
  let running = 0;

  async function inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
    if (running >= MAX_RUNNING) {
      if (waiting.length >= MAX_WAITING) throw refusals.passwordsOverloaded();
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        waitingHashes.set(waiting.length);
      });
    } else running += 1;
    try {
      return await work();
    } finally {
      // Its place goes to the next, if there is one.
      const next = waiting.shift();
      waitingHashes.set(waiting.length);
      if (next === undefined) running -= 1;
      else next();
    }
  }

  return {
    hash: (password) => inTurn(() => hash(password, PARAMETERS)),
    async verify(passwordHash, password) {
      const matches = await inTurn(() => verify(passwordHash ?? nobodys, password));
      return matches && passwordHash !== undefined;
    },
  };
}
