import type { Random } from "#cli/random.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { newOwner, openAccount, shardNumbers, transferRequest } from "#tests/stack.ts";
import type { Command, History } from "#tests/torture/history.ts";

/** The accounts that the load works on: a few dozen, so that they meet each other. */

/**
 * wallet  little money, so that refusals happen; every owner has two of them, in one bucket
 * hot     a merchant whom many pay
 * rich    amounts that need all the digits
 * full    room for little more before its balance leaves the int64 range
 * bait    for faults that are staged: nobody else uses it
 */
export type Role = "wallet" | "hot" | "rich" | "full" | "bait";

export interface TortureAccount {
  readonly id: string;
  readonly shard: number;
  readonly ownerId: string;
  readonly currency: string;
  readonly role: Role;
}

export interface World {
  readonly accounts: readonly TortureAccount[];
  /** Those of a role, in EUR unless said otherwise; of one shard, or of all. */
  readonly of: (role: Role, shard?: number, currency?: string) => readonly TortureAccount[];
}

const OWNERS_PER_SHARD = 3;
const BAITS_PER_SHARD = 3;
const MAX_WALLET_MINOR_UNITS = 3_000;
const RICH_MINOR_UNITS = 4_000_000_000_000_000_000n;
export const FULL_ROOM_MINOR_UNITS = 5_000n;

/** Opens and funds the accounts; `pursue` sends a command until it is answered. */
export async function openWorld(
  history: History,
  random: Random,
  pursue: (command: Command) => Promise<void>,
): Promise<World> {
  const accounts: TortureAccount[] = [];
  const open = async (shard: number, role: Role, ownerId: string, currency: string, funds: bigint) => {
    const { accountId } = await openAccount({ ownerId, currency }, shard);
    accounts.push({ id: accountId, shard, ownerId, currency, role });
    if (funds === 0n) return;
    const source = role === "full" ? "system:vault" : role === "rich" ? "system:mint" : "system:cash";
    const { idempotencyKey: _, ...request } = transferRequest(source, accountId, funds, { currency });
    await pursue(history.open("fund", request));
  };
  for (const shard of shardNumbers) {
    for (let index = 0; index < OWNERS_PER_SHARD; index += 1) {
      const owner = newOwner(shard);
      await open(shard, "wallet", owner, "EUR", BigInt(random.between(0, MAX_WALLET_MINOR_UNITS)));
      await open(shard, "wallet", owner, "EUR", BigInt(random.between(0, MAX_WALLET_MINOR_UNITS)));
    }
    await open(shard, "wallet", newOwner(shard), "JPY", BigInt(random.between(0, MAX_WALLET_MINOR_UNITS)));
    await open(shard, "hot", newOwner(shard), "EUR", 0n);
    await open(shard, "rich", newOwner(shard), "EUR", RICH_MINOR_UNITS);
    await open(shard, "full", newOwner(shard), "EUR", MAX_MINOR_UNITS - FULL_ROOM_MINOR_UNITS);
    for (let index = 0; index < BAITS_PER_SHARD; index += 1) {
      await open(shard, "bait", newOwner(shard), "EUR", RICH_MINOR_UNITS / 1_000n);
    }
  }
  return {
    accounts,
    of: (role, shard, currency = "EUR") =>
      accounts.filter(
        (account) =>
          account.role === role && account.currency === currency && (shard === undefined || account.shard === shard),
      ),
  };
}
