import { type KnownAccounts, knownAccounts } from "#services/ledger/known-accounts.ts";
import type { Shard, Writer } from "#services/ledger/shard.ts";
import { type Turns, turns } from "#services/ledger/turns.ts";

/** What the batches of a shard's commands share: a connection, whose turn it is, and what optimistic batches are decided on. */
export interface CommandWriter {
  readonly shard: Shard;
  readonly connection: Writer;
  readonly turns: Turns;
  readonly known: KnownAccounts;
  readonly optimism: Optimism;
}

/** Whether it is worth trying a batch on what is known. Another process on the same accounts makes that fail again and again. */
export interface Optimism {
  /** Counts: after several failures in a row so many batches are not tried. */
  isWorthwhile(): boolean;
  succeeded(): void;
  failed(): void;
}

/** After the n-th failure in a row 2^(n-1)-1 batches are not tried, and never more than this. */
const MAX_NOT_TRIED = 31;

export function commandWriter(shard: Shard): CommandWriter {
  return {
    shard,
    connection: shard.openWriter(),
    turns: turns(),
    known: knownAccounts(shard.lookUps),
    optimism: optimism(),
  };
}

export function optimism(): Optimism {
  let failuresInARow = 0;
  let notToTry = 0;
  return {
    isWorthwhile() {
      if (notToTry === 0) return true;
      notToTry -= 1;
      return false;
    },
    succeeded() {
      failuresInARow = 0;
    },
    failed() {
      failuresInARow += 1;
      notToTry = Math.min(2 ** (failuresInARow - 1) - 1, MAX_NOT_TRIED);
    },
  };
}
