import type { Random } from "#cli/random.ts";
import { call } from "#lib/grpc-client.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import type { Posting } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ledger, newKey, newOwner, openAccount, shardNumbers, transferRequest } from "#tests/stack.ts";
import { type Command, type History, isFinal } from "#tests/torture/history.ts";

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

/** A hold that a client was told of. */
export interface KnownHold {
  readonly holdId: string;
  readonly debitAccountId: string;
  readonly creditAccountId: string;
  readonly currency: string;
}

/** A transfer that a client was told of, and what it asked for. */
export interface KnownTransfer {
  readonly transferId: string;
  readonly postings: readonly Posting[];
}

export interface World {
  readonly accounts: readonly TortureAccount[];
  /** Those of a role, in EUR unless said otherwise; of one shard, or of all. */
  readonly of: (role: Role, shard?: number, currency?: string) => readonly TortureAccount[];
  /** What was made lately, for commands that go on from it. */
  readonly holds: readonly KnownHold[];
  readonly quotes: readonly string[];
  readonly transfers: readonly KnownTransfer[];
  /** Remembers what a command made, if its client was told. */
  readonly learn: (command: Command) => void;
}

/** What is older is forgotten. */
const MAX_REMEMBERED = 40;
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
    const request = transferRequest(source, accountId, funds, { currency });
    await pursue(history.open("fund", { rpc: "createTransfer", request }));
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
  await call(ledger, ledger.setRates, {
    rates: [{ base: "EUR", quote: "JPY", rate: "163.27", spreadBps: 50, asOf: new Date() }],
    idempotencyKey: newKey(),
  });
  const holds: KnownHold[] = [];
  const quotes: string[] = [];
  const transfers: KnownTransfer[] = [];
  return {
    accounts,
    holds,
    quotes,
    transfers,
    learn({ order, attempts }) {
      for (const { answer } of attempts) {
        if (answer.kind === "posted" && order.rpc === "createTransfer") {
          remember(transfers, { transferId: answer.transferId, postings: order.request.postings });
        }
        if (answer.kind === "changed" && order.rpc === "createQuote") remember(quotes, answer.resourceId);
        if (answer.kind === "changed" && order.rpc === "createHold") {
          remember(holds, { ...order.request, holdId: answer.resourceId });
        }
        if (isFinal(answer)) return;
      }
    },
    of: (role, shard, currency = "EUR") =>
      accounts.filter(
        (account) =>
          account.role === role && account.currency === currency && (shard === undefined || account.shard === shard),
      ),
  };
}

function remember<Known>(known: Known[], one: Known): void {
  known.push(one);
  if (known.length > MAX_REMEMBERED) known.shift();
}
