import type { Pool } from "pg";
import { plainArray } from "#lib/sql-arrays.ts";
import { type AccountRow, toLockedAccount } from "#services/ledger/account-row.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";

/**
 * The accounts of a shard as the last batches left them, and its clock: what optimistic batches are decided on
 * (optimistic-batch.ts). Nothing here need be true: Postgres checks it when a batch is written.
 */
export interface KnownAccounts {
  /** By UUID; undefined when it is not known. Never changed: a batch works with copies. */
  get(uuid: string): LockedAccount | undefined;
  /** Reads those that are not known, without locks; resolves when all that exist are known. */
  learn(names: ReadonlyMap<string, string>): Promise<void>;
  /** Accounts as a batch leaves them. */
  note(accounts: Iterable<LockedAccount>): void;
  forget(accounts: Iterable<LockedAccount>): void;
  /** What the clock of the shard's Postgres said, just now. */
  noteClock(clockMs: number): void;
  /** The clock of the shard's Postgres now, or a little earlier; undefined when nothing is known of it. */
  clockMs(): number | undefined;
}

/** About 10 MB. Beyond it, those that came first are read again when they are needed. */
const MAX_KNOWN_ACCOUNTS = 20_000;

export function knownAccounts(reads: Pool): KnownAccounts {
  const known = new Map<string, LockedAccount>();
  let clock: { readonly clockMs: number; readonly atMs: number } | undefined;

  function note(account: LockedAccount): void {
    known.set(account.uuid, account);
    if (known.size <= MAX_KNOWN_ACCOUNTS) return;
    const [first] = known.keys();
    known.delete(first as string);
  }

  return {
    get: (uuid) => known.get(uuid),
    async learn(names) {
      const unknown = [...names.keys()].filter((uuid) => !known.has(uuid));
      if (unknown.length === 0) return;
      const { rows } = await reads.query<AccountRow>({
        name: "read-accounts",
        text: "select * from ledger.read_accounts($1)",
        values: [plainArray(unknown)],
        rowMode: "array",
      });
      for (const account of rows.map((row) => toLockedAccount(row, names))) {
        // A batch may have changed it since it was read.
        if (!known.has(account.uuid)) note(account);
      }
    },
    note(accounts) {
      for (const account of accounts) note(account);
    },
    forget(accounts) {
      for (const { uuid } of accounts) known.delete(uuid);
    },
    noteClock(clockMs) {
      clock = { clockMs, atMs: performance.now() };
    },
    // What has passed since then is less than what has passed since Postgres looked: it is never ahead.
    clockMs: () => (clock === undefined ? undefined : Math.floor(clock.clockMs + performance.now() - clock.atMs)),
  };
}
