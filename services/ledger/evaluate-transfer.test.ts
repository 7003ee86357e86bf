import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { idGenerator, parseId } from "#lib/ids.ts";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import type { Batch } from "#services/ledger/batch.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import type { LockedAccount, TransferCommand } from "#services/ledger/transfer.ts";

const NOW_MS = Date.UTC(2026, 10, 21);
const newId = idGenerator(() => NOW_MS);

function account(change: Partial<LockedAccount> = {}, bucket = 1): LockedAccount {
  const id = newId("acct", bucket);
  return {
    id,
    uuid: parseId(id)?.uuid as string,
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

type Move = [debit: LockedAccount, credit: LockedAccount, amountMinorUnits: bigint];

function accountsOf([debit, credit]: Move): LockedAccount[] {
  return [debit, credit];
}

function batchOf(accounts: readonly LockedAccount[]): Batch {
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

function commandOf(moves: Move[], change: Partial<TransferCommand> = {}): TransferCommand {
  const key = commandKey({
    bucket: 1,
    caller: "local",
    method: "create_transfer",
    key: "k",
    fingerprint: Buffer.alloc(32),
    resourceUuid: "",
    makes: "xfer",
  });
  return {
    kind: "transfer",
    key,
    name: key.text,
    weight: moves.length,
    accounts: moves.flatMap(accountsOf),
    transferId: newId("xfer", 1),
    transferUuid: "",
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
    quote: undefined,
    reversal: undefined,
    crossShard: false,
    refusedElsewhere: undefined,
    ...change,
  };
}

function evaluate(moves: Move[], change: Partial<TransferCommand> = {}) {
  const batch = batchOf(moves.flatMap(accountsOf));
  return { ...evaluateTransfer(commandOf(moves, change), batch), batch };
}

function reason(result: ReturnType<typeof evaluate>): string {
  return result.kind === "refused" ? result.refusal.reason : "POSTED";
}

test("a debit down to the floor is made, one minor unit more is refused", () => {
  assert.equal(reason(evaluate([[account(), account(), 1_000n]])), "POSTED");
  assert.equal(reason(evaluate([[account(), account(), 1_001n]])), "INSUFFICIENT_FUNDS");
  assert.equal(reason(evaluate([[account({ floorMinorUnits: -1n }), account(), 1_001n]])), "POSTED");
  assert.equal(reason(evaluate([[account({ floorMinorUnits: undefined }), account(), 5_000n]])), "POSTED");
});

test("held money cannot be spent", () => {
  assert.equal(reason(evaluate([[account({ heldMinorUnits: 1n }), account(), 1_000n]])), "INSUFFICIENT_FUNDS");
});

test("each posting must leave the floors respected, in their order", () => {
  const [a, b, c] = [account(), account({ postedMinorUnits: 0n }), account()];
  assert.equal(
    reason(
      evaluate([
        [b, c, 10n],
        [a, b, 10n],
      ]),
    ),
    "INSUFFICIENT_FUNDS",
  );
  assert.equal(
    reason(
      evaluate([
        [a, b, 10n],
        [b, c, 10n],
      ]),
    ),
    "POSTED",
  );
});

test("a refusal in the last posting leaves every account as it was", () => {
  const [a, b] = [account(), account()];
  const before = structuredClone([a, b]);
  assert.equal(
    reason(
      evaluate([
        [a, b, 900n],
        [a, b, 900n],
      ]),
    ),
    "INSUFFICIENT_FUNDS",
  );
  assert.deepEqual([a, b], before);
});

test("a balance cannot leave the range of a 64-bit integer", () => {
  const full = account({ postedMinorUnits: MAX_MINOR_UNITS });
  assert.equal(reason(evaluate([[account(), full, 1n]])), "BALANCE_OVERFLOW");
  const empty = account({ postedMinorUnits: -MAX_MINOR_UNITS, floorMinorUnits: undefined });
  assert.equal(reason(evaluate([[empty, account(), 2n]])), "BALANCE_OVERFLOW");
});

test("accounts that are not active take no part, on either side", () => {
  for (const status of ["FROZEN", "PENDING", "CLOSED"]) {
    assert.equal(reason(evaluate([[account({ status }), account(), 1n]])), `ACCOUNT_${status}`);
    assert.equal(reason(evaluate([[account(), account({ status }), 1n]])), `ACCOUNT_${status}`);
  }
});

test("the currency of a posting is that of both accounts", () => {
  assert.equal(reason(evaluate([[account(), account({ currency: "USD" }), 1n]])), "CURRENCY_MISMATCH");
  assert.equal(reason(evaluate([[account({ currency: "USD" }), account(), 1n]])), "CURRENCY_MISMATCH");
});

test("limited debits are of one bucket; unbounded ones do not count", () => {
  const target = account();
  assert.equal(
    reason(
      evaluate([
        [account({}, 1), target, 1n],
        [account({}, 2), target, 1n],
      ]),
    ),
    "DEBITS_IN_SEVERAL_BUCKETS",
  );
  const unbounded = account({ floorMinorUnits: undefined }, 2);
  assert.equal(
    reason(
      evaluate([
        [account({}, 1), target, 1n],
        [unbounded, target, 1n],
      ]),
    ),
    "POSTED",
  );
});

test("an effective time is neither in the future nor before an account's latest entry", () => {
  assert.equal(
    reason(evaluate([[account(), account(), 1n]], { effectiveTimeMs: NOW_MS + 1 })),
    "EFFECTIVE_TIME_IN_FUTURE",
  );
  const late = account({ lastEffectiveTimeMs: NOW_MS - 5 });
  assert.equal(
    reason(evaluate([[account(), late, 1n]], { effectiveTimeMs: NOW_MS - 6 })),
    "EFFECTIVE_TIME_NOT_MONOTONIC",
  );
  assert.equal(reason(evaluate([[account(), late, 1n]], { effectiveTimeMs: NOW_MS - 5 })), "POSTED");
});

test("post times never fall for an account, whatever the clock says", () => {
  const ahead = account({ lastPostTimeMs: NOW_MS + 1_000 });
  const result = evaluate([[account(), ahead, 1n]]);
  assert.equal(result.batch.transfers[0]?.transfer.postTimeMs, NOW_MS + 1_000);
});

test("an unknown account is named with its field and not remembered", () => {
  const known = account();
  const stranger = account();
  const result = evaluateTransfer(commandOf([[known, stranger, 1n]]), batchOf([known]));
  assert.ok(result.kind === "refused" && !result.remembered);
  assert.equal(result.refusal.metadata.field, "postings[0].credit_account_id");
});

test("whatever is asked: nothing is made or lost, floors hold, sequences have no gap, versions rise by one per transfer", () => {
  const move = fc.record({ from: fc.nat(3), to: fc.nat(3), amount: fc.bigInt(1n, 700n) });
  fc.assert(
    fc.property(fc.array(fc.array(move, { minLength: 1, maxLength: 4 }), { maxLength: 30 }), (transfers) => {
      const accounts = [
        account(),
        account({ floorMinorUnits: -300n }),
        account({ floorMinorUnits: undefined }),
        account(),
      ];
      const total = () => accounts.reduce((sum, one) => sum + one.postedMinorUnits, 0n);
      const sequences = new Map(accounts.map(({ id }) => [id, 0n]));
      const balances = new Map(accounts.map(({ id, postedMinorUnits }) => [id, postedMinorUnits]));
      const before = total();
      for (const moves of transfers) {
        const versions = accounts.map(({ version }) => version);
        const real = moves.filter(({ from, to }) => from !== to);
        if (real.length === 0) continue;
        const result = evaluate(
          real.map(({ from, to, amount }) => [accounts[from] as LockedAccount, accounts[to] as LockedAccount, amount]),
        );
        assert.equal(total(), before);
        for (const one of accounts)
          assert.ok(one.floorMinorUnits === undefined || one.postedMinorUnits >= one.floorMinorUnits);
        const touched = new Set(real.flatMap(({ from, to }) => [from, to]));
        for (const [index, one] of accounts.entries()) {
          const rise = result.kind === "done" && touched.has(index) ? 1n : 0n;
          assert.equal(one.version, (versions[index] as bigint) + rise);
        }
        if (result.kind === "refused") continue;
        for (const { entry } of result.batch.entries) {
          const sequence = (sequences.get(entry.account.id) as bigint) + 1n;
          const balance = (balances.get(entry.account.id) as bigint) + entry.amountMinorUnits;
          assert.equal(entry.sequence, sequence);
          assert.equal(entry.balanceAfterMinorUnits, balance);
          sequences.set(entry.account.id, sequence);
          balances.set(entry.account.id, balance);
        }
      }
    }),
    { numRuns: 300 },
  );
});
