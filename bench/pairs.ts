import type { Pair } from "#bench/load-request.ts";

/** Who pays whom: how a workload draws the accounts of its next transfer. */
export type DrawPair = () => Pair;

/** Two different accounts, every pair as likely as any other. There must be at least two. */
export function uniformPairs(accountIds: readonly string[]): DrawPair {
  return () => {
    const first = Math.floor(Math.random() * accountIds.length);
    const other = Math.floor(Math.random() * (accountIds.length - 1));
    return [accountIds[first] as string, accountIds[other < first ? other : other + 1] as string];
  };
}

/** Every transfer credits the first account; any other one pays. */
export function hotPairs([hot, ...payers]: readonly string[]): DrawPair {
  return () => [randomOf(payers), hot as string];
}

/** From one group to another, such as those of two shards. */
export function pairsBetween(payers: readonly string[], payees: readonly string[]): DrawPair {
  return () => [randomOf(payers), randomOf(payees)];
}

function randomOf(accountIds: readonly string[]): string {
  return accountIds[Math.floor(Math.random() * accountIds.length)] as string;
}
