import type { OpenedAccount } from "#cli/ledger.ts";
import type { Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";

/** What the ledger said it posted, added up per account: what the balances have to be. */
export interface TalliedAccount {
  readonly accountId: string;
  /** As people know it: the account of the file, or the name of a counterparty. */
  readonly name: string;
  readonly role: "account" | "counterparty";
  readonly currency: string;
  readonly shard: number;
  creditsMinorUnits: bigint;
  debitsMinorUnits: bigint;
}

export interface Tally {
  readonly accounts: ReadonlyMap<string, TalliedAccount>;
  /** Adds a posted transfer between an account and its counterparty, which is on the same shard. */
  add(account: string, opened: OpenedAccount, counterparty: string, transfer: Transfer): void;
}

/** Begins with the accounts of a book, so that those without any transfer are checked as well. */
export function startTally(opened: ReadonlyMap<string, OpenedAccount>): Tally {
  const accounts = new Map<string, TalliedAccount>();
  const tallied = (accountId: string, more: Pick<TalliedAccount, "name" | "role" | "currency" | "shard">) => {
    const known = accounts.get(accountId);
    if (known !== undefined) return known;
    const added = { accountId, ...more, creditsMinorUnits: 0n, debitsMinorUnits: 0n };
    accounts.set(accountId, added);
    return added;
  };
  for (const [name, { accountId, currency, shard }] of opened) {
    tallied(accountId, { name, role: "account", currency, shard });
  }
  return {
    accounts,
    add(account, { accountId: ownId, shard }, counterparty, transfer) {
      for (const { debitAccountId, creditAccountId, amountMinorUnits, currency } of transfer.postings) {
        for (const [accountId, side] of [
          [debitAccountId, "debitsMinorUnits"],
          [creditAccountId, "creditsMinorUnits"],
        ] as const) {
          const role = accountId === ownId ? "account" : "counterparty";
          const name = accountId === ownId ? account : counterparty;
          tallied(accountId, { name, role, currency, shard })[side] += amountMinorUnits;
        }
      }
    },
  };
}
