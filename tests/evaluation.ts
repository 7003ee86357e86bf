import { idGenerator, idToUuid } from "#lib/ids.ts";
import type { Batch } from "#services/ledger/batch.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import type { LockedAccount, TransferCommand } from "#services/ledger/transfer.ts";

/** What the tests of the ledger's rules evaluate: accounts as if locked, a batch of them, transfers between them. */

export const NOW_MS = Date.UTC(2026, 10, 21);
const newId = idGenerator(() => NOW_MS);

/** A EUR wallet with 1,000 minor units and a floor of zero, unless said otherwise. */
export function lockedAccount(change: Partial<LockedAccount> = {}, bucket = 1): LockedAccount {
  const id = newId("acct", bucket);
  return {
    id,
    uuid: idToUuid(id),
    ownerId: "",
    currency: "EUR",
    kind: "WALLET",
    status: "ACTIVE",
    postedMinorUnits: 1_000n,
    heldMinorUnits: 0n,
    floorMinorUnits: 0n,
    version: 1n,
    entrySequence: 0n,
    lastPostTimeMs: Number.NEGATIVE_INFINITY,
    lastEffectiveTimeMs: Number.NEGATIVE_INFINITY,
    reference: "",
    preparedDebitMinorUnits: 0n,
    preparedCreditMinorUnits: 0n,
    touched: false,
    ...change,
  };
}

/** A batch at `NOW_MS` with nothing but these accounts. */
export function batchOf(accounts: readonly LockedAccount[]): Batch {
  return {
    nowMs: NOW_MS,
    accounts: new Map(accounts.map((one) => [one.id, one])),
    decisions: new Map(),
    holds: new Map(),
    legs: new Map(),
    quotes: new Map(),
    rates: new Map(),
    newRates: [],
    refunds: new Map(),
    originals: new Map(),
    transfers: [],
    entries: [],
    events: [],
  };
}

export type Move = readonly [debit: LockedAccount, credit: LockedAccount, amountMinorUnits: bigint];

/** The accounts of the moves, in their order. */
export function accountsOf(moves: readonly Move[]): LockedAccount[] {
  const accounts: LockedAccount[] = [];
  for (const [debit, credit] of moves) accounts.push(debit, credit);
  return accounts;
}

/** A transfer in EUR within the shard, one posting a move, with a key and an id of its own. */
export function transferCommand(moves: readonly Move[], change: Partial<TransferCommand> = {}): TransferCommand {
  const transferId = newId("xfer", 1);
  const transferUuid = idToUuid(transferId);
  const key = commandKey({
    bucket: 1,
    caller: "local",
    method: "create_transfer",
    key: transferId,
    fingerprint: Buffer.alloc(32),
    resourceUuid: transferUuid,
    makes: "xfer",
  });
  return {
    kind: "transfer",
    key,
    name: key.text,
    weight: moves.length,
    accounts: accountsOf(moves),
    transferId,
    transferUuid,
    bucket: 1,
    postings: moves.map(([debit, credit, amountMinorUnits]) => ({
      debitAccountId: debit.id,
      creditAccountId: credit.id,
      amountMinorUnits,
      currency: "EUR",
    })),
    local: moves.map(([debit, credit, amountMinorUnits], index) => ({
      index,
      debit,
      credit,
      amountMinorUnits,
      currency: "EUR",
      debitCounterparty: credit,
      creditCounterparty: debit,
    })),
    type: "transfer",
    memo: "",
    metadata: {},
    effectiveTimeMs: undefined,
    links: undefined,
    capture: undefined,
    reversal: undefined,
    quote: undefined,
    crossShard: false,
    refusedElsewhere: undefined,
    ...change,
  };
}
