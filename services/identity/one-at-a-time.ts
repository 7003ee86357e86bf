import { refusals } from "#services/identity/refusals.ts";

/**
 * Work of one name, one after the other within this process: of many identical calls at once one pays for the password hash, and the
 * others find what it has written. Other processes are kept out by the database alone. At most so many wait under one name.
 */
export interface OneAtATime {
  /** Throws SIGN_IN_OVERLOADED when too many wait. */
  run<Value>(name: string, work: () => Promise<Value>): Promise<Value>;
}

const MAX_WAITING = 100;

export function oneAtATime(): OneAtATime {
  const lines = new Map<string, { last: Promise<unknown>; waiting: number }>();
  return {
    async run(name, work) {
      const line = lines.get(name) ?? { last: Promise.resolve(), waiting: 0 };
      if (line.waiting > MAX_WAITING) throw refusals.passwordsOverloaded();
      const running = line.last.then(work, work);
      line.last = running;
      line.waiting += 1;
      lines.set(name, line);
      try {
        return await running;
      } finally {
        line.waiting -= 1;
        if (line.waiting === 0) lines.delete(name);
      }
    },
  };
}
