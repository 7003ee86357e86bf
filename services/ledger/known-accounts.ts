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
  /**
   * Reads those that are not known, without locks. Answers which of them do not exist; the others are known afterwards, unless
   * they are forgotten again meanwhile.
   */
  learn(names: ReadonlyMap<string, string>): Promise<ReadonlySet<string>>;
  /** Accounts as a batch leaves them. */
  note(accounts: Iterable<LockedAccount>): void;
  forget(accounts: Iterable<LockedAccount>): void;
  /** What the clock of the shard's Postgres said, just now. */
  noteClock(clockMs: number): void;
  /** The clock of the shard's Postgres now, or a little earlier; undefined when nothing is known of it. */
  clockMs(): number | undefined;
}

/** About 10 MB. Beyond it, those that no batch has touched for longest are forgotten. */
const MAX_KNOWN_ACCOUNTS = 20_000;

const NONE: ReadonlySet<string> = new Set();

export function knownAccounts(lookUps: Pool): KnownAccounts {
  const known = new Map<string, LockedAccount>();
  let clock: { readonly clockMs: number; readonly atMs: number } | undefined;

  function note(account: LockedAccount): void {
    // Behind all others: the order of the map is that of their last batch.
    known.delete(account.uuid);
    known.set(account.uuid, account);
    if (known.size <= MAX_KNOWN_ACCOUNTS) return;
    const [first] = known.keys();
    known.delete(first as string);
  }

  return {
    get: (uuid) => known.get(uuid),
    async learn(names) {
      const unknown = [...names.keys()].filter((uuid) => !known.has(uuid));
      if (unknown.length === 0) return NONE;
      const { rows } = await lookUps.query<AccountRow>({
        name: "read-accounts",
        text: "select * from ledger.read_accounts($1)",
        values: [plainArray(unknown)],
        rowMode: "array",
      });
      for (const account of rows.map((row) => toLockedAccount(row, names))) {
        // A batch may have changed it since it was read.
        if (!known.has(account.uuid)) note(account);
      }
      const found = new Set(rows.map(([uuid]) => uuid));
      return new Set(unknown.filter((uuid) => !found.has(uuid)));
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
