/**
 * Who may use a connection: works that need one round trip run beside each other, one behind the other on the wire; a work that
 * needs several round trips in one transaction runs alone. In the order of their coming.
 */
export interface Turns {
  beside<Result>(work: () => Promise<Result>): Promise<Result>;
  alone<Result>(work: () => Promise<Result>): Promise<Result>;
}

export function turns(): Turns {
  const waiting: { readonly isAlone: boolean; readonly start: () => void }[] = [];
  let running = 0;
  let isOneAlone = false;

  function startNext(): void {
    for (let [next] = waiting; next !== undefined; [next] = waiting) {
      if (isOneAlone || (next.isAlone && running > 0)) return;
      waiting.shift();
      running += 1;
      isOneAlone = next.isAlone;
      next.start();
    }
  }

  async function inTurn<Result>(isAlone: boolean, work: () => Promise<Result>): Promise<Result> {
    await new Promise<void>((start) => {
      waiting.push({ isAlone, start });
      startNext();
    });
    try {
      return await work();
    } finally {
      running -= 1;
      isOneAlone = false;
      startNext();
    }
  }

  return { beside: (work) => inTurn(false, work), alone: (work) => inTurn(true, work) };
}
