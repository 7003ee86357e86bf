import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import type { LockedAccount, TransferCommand } from "#services/ledger/transfer.ts";
import { accountsOf, batchOf, lockedAccount, type Move, NOW_MS, transferCommand } from "#tests/evaluation.ts";

function evaluate(moves: Move[], change: Partial<TransferCommand> = {}) {
  const batch = batchOf(accountsOf(moves));
  return { ...evaluateTransfer(transferCommand(moves, change), batch), batch };
}

function reason(result: ReturnType<typeof evaluate>): string {
  return result.kind === "refused" ? result.refusal.reason : "POSTED";
}

test("a debit down to the floor is made, one minor unit more is refused", () => {
  assert.equal(reason(evaluate([[lockedAccount(), lockedAccount(), 1_000n]])), "POSTED");
  assert.equal(reason(evaluate([[lockedAccount(), lockedAccount(), 1_001n]])), "INSUFFICIENT_FUNDS");
  assert.equal(reason(evaluate([[lockedAccount({ floorMinorUnits: -1n }), lockedAccount(), 1_001n]])), "POSTED");
  assert.equal(reason(evaluate([[lockedAccount({ floorMinorUnits: undefined }), lockedAccount(), 5_000n]])), "POSTED");
});

test("held money cannot be spent", () => {
  assert.equal(
    reason(evaluate([[lockedAccount({ heldMinorUnits: 1n }), lockedAccount(), 1_000n]])),
    "INSUFFICIENT_FUNDS",
  );
});

test("each posting must leave the floors respected, in their order", () => {
  const [a, b, c] = [lockedAccount(), lockedAccount({ postedMinorUnits: 0n }), lockedAccount()];
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
  const [a, b] = [lockedAccount(), lockedAccount()];
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
  const full = lockedAccount({ postedMinorUnits: MAX_MINOR_UNITS });
  assert.equal(reason(evaluate([[lockedAccount(), full, 1n]])), "BALANCE_OVERFLOW");
  const empty = lockedAccount({ postedMinorUnits: -MAX_MINOR_UNITS, floorMinorUnits: undefined });
  assert.equal(reason(evaluate([[empty, lockedAccount(), 2n]])), "BALANCE_OVERFLOW");
});

test("accounts that are not active take no part, on either side", () => {
  for (const status of ["FROZEN", "PENDING", "CLOSED"]) {
    assert.equal(reason(evaluate([[lockedAccount({ status }), lockedAccount(), 1n]])), `ACCOUNT_${status}`);
    assert.equal(reason(evaluate([[lockedAccount(), lockedAccount({ status }), 1n]])), `ACCOUNT_${status}`);
  }
});

test("the currency of a posting is that of both accounts", () => {
  assert.equal(reason(evaluate([[lockedAccount(), lockedAccount({ currency: "USD" }), 1n]])), "CURRENCY_MISMATCH");
  assert.equal(reason(evaluate([[lockedAccount({ currency: "USD" }), lockedAccount(), 1n]])), "CURRENCY_MISMATCH");
});

test("limited debits are of one bucket; unbounded ones do not count", () => {
  const target = lockedAccount();
  assert.equal(
    reason(
      evaluate([
        [lockedAccount({}, 1), target, 1n],
        [lockedAccount({}, 2), target, 1n],
      ]),
    ),
    "DEBITS_IN_SEVERAL_BUCKETS",
  );
  const unbounded = lockedAccount({ floorMinorUnits: undefined }, 2);
  assert.equal(
    reason(
      evaluate([
        [lockedAccount({}, 1), target, 1n],
        [unbounded, target, 1n],
      ]),
    ),
    "POSTED",
  );
});

test("an effective time is neither in the future nor before an account's latest entry", () => {
  assert.equal(
    reason(evaluate([[lockedAccount(), lockedAccount(), 1n]], { effectiveTimeMs: NOW_MS + 1 })),
    "EFFECTIVE_TIME_IN_FUTURE",
  );
  const late = lockedAccount({ lastEffectiveTimeMs: NOW_MS - 5 });
  assert.equal(
    reason(evaluate([[lockedAccount(), late, 1n]], { effectiveTimeMs: NOW_MS - 6 })),
    "EFFECTIVE_TIME_NOT_MONOTONIC",
  );
  assert.equal(reason(evaluate([[lockedAccount(), late, 1n]], { effectiveTimeMs: NOW_MS - 5 })), "POSTED");
});

test("post times never fall for an account, whatever the clock says", () => {
  const ahead = lockedAccount({ lastPostTimeMs: NOW_MS + 1_000 });
  const result = evaluate([[lockedAccount(), ahead, 1n]]);
  assert.equal(result.batch.transfers[0]?.transfer.postTimeMs, NOW_MS + 1_000);
});

test("an unknown account is named with its field and not remembered", () => {
  const known = lockedAccount();
  const stranger = lockedAccount();
  const result = evaluateTransfer(transferCommand([[known, stranger, 1n]]), batchOf([known]));
  assert.ok(result.kind === "refused" && !result.remembered);
  assert.equal(result.refusal.metadata.field, "postings[0].credit_account_id");
});

test("whatever is asked: nothing is made or lost, floors hold, sequences have no gap, versions rise by one per transfer", () => {
  const move = fc.record({ from: fc.nat(3), to: fc.nat(3), amount: fc.bigInt(1n, 700n) });
  fc.assert(
    fc.property(fc.array(fc.array(move, { minLength: 1, maxLength: 4 }), { maxLength: 30 }), (transfers) => {
      const accounts = [
        lockedAccount(),
        lockedAccount({ floorMinorUnits: -300n }),
        lockedAccount({ floorMinorUnits: undefined }),
        lockedAccount(),
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
