import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { idGenerator, idToUuid } from "#lib/ids.ts";
import type { Batch } from "#services/ledger/batch.ts";
import type { CloseRefundsCommand, NoteReversedCommand } from "#services/ledger/command.ts";
import { closeRefunds, noteReversed } from "#services/ledger/evaluate-reversal.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import { postingName } from "#services/ledger/refunded-posting.ts";
import type { LegState, LockedLeg } from "#services/ledger/remote-leg.ts";
import type { Reversal } from "#services/ledger/reversal.ts";
import type { PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";
import { batchOf, lockedAccount, type Move, NOW_MS, transferCommand } from "#tests/evaluation.ts";

const BUCKET = 1;
const newId = idGenerator(() => NOW_MS);

/** A transfer whose postings, one an amount, went from one account to another; both are in the batch. */
function scene(credited: readonly bigint[]) {
  const payee = lockedAccount({ postedMinorUnits: credited.reduce((sum, amount) => sum + amount, 0n) });
  const payer = lockedAccount({ postedMinorUnits: 0n });
  const transferId = newId("xfer", BUCKET);
  const transfer: PostedTransfer = {
    transferId,
    state: "POSTED",
    type: "transfer",
    memo: "",
    metadata: {},
    postings: credited.map((amountMinorUnits) => ({
      debitAccountId: payer.id,
      creditAccountId: payee.id,
      amountMinorUnits,
      currency: "EUR",
    })),
    balances: [],
    postTimeMs: NOW_MS,
    effectiveTimeMs: NOW_MS,
    links: undefined,
  };
  const transferUuid = idToUuid(transferId);
  const original = { transfer, transferUuid, eventNumber: 7n, reversedPostings: [], row: "unchanged" } as const;
  const batch: Batch = { ...batchOf([payer, payee]), originals: new Map([[transferId, { ...original }]]) };
  return { payer, payee, transferId, transferUuid, credited, batch };
}

type Scene = ReturnType<typeof scene>;
type Part = readonly [postingIndex: number, amountMinorUnits: bigint];

function reversalOf(
  { payer, payee, transferId, transferUuid, credited }: Scene,
  parts: readonly Part[],
  more: Partial<Reversal> = {},
  crossShard = false,
): TransferCommand {
  const moves = parts.map(([, amountMinorUnits]): Move => [payee, payer, amountMinorUnits]);
  return transferCommand(moves, {
    type: "reversal",
    links: { reversesTransferId: transferId, reversesPostingIndexes: parts.map(([index]) => index) },
    reversal: {
      originalId: transferId,
      originalUuid: transferUuid,
      parts: parts.map(([postingIndex]) => ({ postingIndex, creditedMinorUnits: credited[postingIndex] as bigint })),
      everythingLeft: false,
      cameFromElsewhere: false,
      ...more,
    },
    crossShard,
  });
}

/** What a reversal came to: the amounts that it took back, or why it took none. */
function evaluate(one: Scene, ...args: Parameters<typeof reversalOf> extends [Scene, ...infer Rest] ? Rest : never) {
  const evaluation = evaluateTransfer(reversalOf(one, ...args), one.batch);
  if (evaluation.kind === "refused") return evaluation.refusal.reason;
  if (evaluation.answer.kind !== "transfer") return evaluation.answer.kind;
  const { postings, links } = evaluation.answer.transfer;
  return links?.reversesPostingIndexes?.map((index, position) => [index, postings[position]?.amountMinorUnits]);
}

const amounts = fc.array(fc.bigInt(1n, 12n), { minLength: 1, maxLength: 4 });
/** Of each posting perhaps an amount; none at all: everything that is left. */
const asked = fc.array(fc.option(fc.bigInt(1n, 9n), { nil: undefined }), { minLength: 4, maxLength: 4 });

test("whatever is asked for in whatever order, never more is taken back than was credited, and exactly what is said", () => {
  fc.assert(
    fc.property(amounts, fc.array(asked, { maxLength: 12 }), (credited, calls) => {
      const one = scene(credited);
      const left = [...credited];
      for (const call of calls) {
        const parts = credited.flatMap((_, index): Part[] => {
          const amount = call[index];
          return amount === undefined ? [] : [[index, amount]];
        });
        const before = structuredClone(one.batch.refunds);
        if (parts.length === 0) {
          const expected = left.flatMap((amount, index) => (amount === 0n ? [] : [[index, amount]]));
          // The amounts of the command are those of a moment ago.
          const all = credited.map((amount, index): Part => [index, amount]);
          const came = evaluate(one, all, { everythingLeft: true });
          assert.deepEqual(came, expected.length === 0 ? "ALREADY_REVERSED" : expected);
          left.fill(0n);
        } else if (parts.some(([index, amount]) => amount > (left[index] as bigint))) {
          assert.equal(evaluate(one, parts), "REFUND_EXCEEDS_REMAINDER");
          assert.deepEqual(one.batch.refunds, before);
        } else {
          assert.deepEqual(evaluate(one, parts), parts);
          for (const [index, amount] of parts) left[index] = (left[index] as bigint) - amount;
        }
        for (const [index, amount] of left.entries()) {
          const refund = one.batch.refunds.get(postingName(one.transferUuid, index));
          const whole = credited[index] as bigint;
          assert.equal(refund?.refundedMinorUnits ?? 0n, whole - amount);
          assert.equal(refund?.state, amount === whole ? undefined : amount === 0n ? "EXHAUSTED" : "PARTIAL");
        }
        assert.equal(
          one.payee.postedMinorUnits,
          left.reduce((sum, amount) => sum + amount, 0n),
        );
        const moved = one.batch.entries.reduce((sum, { entry }) => sum + entry.amountMinorUnits, 0n);
        assert.equal(moved, 0n);
      }
    }),
  );
});

test("a reversal that the account refuses has taken nothing back", () => {
  const one = scene([10n, 5n]);
  one.payee.postedMinorUnits = 9n;
  assert.equal(evaluate(one, [[0, 10n]]), "INSUFFICIENT_FUNDS");
  assert.equal(
    evaluate(
      one,
      [
        [0, 10n],
        [1, 5n],
      ],
      { everythingLeft: true },
    ),
    "INSUFFICIENT_FUNDS",
  );
  assert.deepEqual([one.batch.refunds.size, one.payee.postedMinorUnits], [0, 9n]);
  assert.deepEqual(evaluate(one, [[0, 9n]]), [[0, 9n]]);
});

test("with legs on other shards, all that is left is what they were prepared for, or nothing", () => {
  const one = scene([10n]);
  assert.deepEqual(evaluate(one, [[0, 4n]]), [[0, 4n]]);
  assert.equal(evaluate(one, [[0, 10n]], { everythingLeft: true }, true), "REMAINDER_CHANGED");
  assert.deepEqual(evaluate(one, [[0, 6n]], { everythingLeft: true }, true), [[0, 6n]]);
});

test("a credit from another shard can be taken back once its leg is posted, and not before", () => {
  const one = scene([10n]);
  const legs = (state: LegState, creditIsHere = true) =>
    one.batch.legs.set(one.transferId, [{ postingIndex: 0, creditIsHere, state } as LockedLeg]);
  legs("PREPARED");
  assert.equal(evaluate(one, [[0, 10n]], { cameFromElsewhere: true }), "TRANSFER_STILL_PROCESSING");
  legs("RELEASED");
  assert.throws(() => evaluate(one, [[0, 10n]], { cameFromElsewhere: true }), /has no leg/);
  legs("POSTED", false);
  assert.throws(() => evaluate(one, [[0, 10n]], { cameFromElsewhere: true }), /has no leg/);
  legs("POSTED");
  assert.deepEqual(evaluate(one, [[0, 10n]], { cameFromElsewhere: true }), [[0, 10n]]);
});

function step<Kind extends string>(kind: Kind, transferId: string, postingIndexes: readonly number[]) {
  return { kind, key: undefined, name: "", weight: 1, accounts: [], transferId, postingIndexes };
}
const note = (transferId: string, indexes: readonly number[]): NoteReversedCommand =>
  step("note_reversed", transferId, indexes);
const close = (transferId: string, indexes: readonly number[]): CloseRefundsCommand =>
  step("close_refunds", transferId, indexes);

test("noted in any order and any number of times, a transfer is REVERSED once: with the last of its postings", () => {
  const indexes = fc.array(fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }), { maxLength: 10 });
  fc.assert(
    fc.property(indexes, (calls) => {
      const one = scene([1n, 2n, 3n, 4n]);
      const noted = new Set<number>();
      for (const call of calls) {
        const before = noted.size;
        for (const index of call) noted.add(index);
        const evaluation = noteReversed(note(one.transferId, call), one.batch);
        const isLast = before < 4 && noted.size === 4;
        assert.equal(evaluation.kind === "done" && evaluation.event !== undefined, isLast);
        const original = one.batch.originals.get(one.transferId);
        assert.deepEqual(
          original?.reversedPostings,
          [...noted].sort((a, b) => a - b),
        );
        assert.equal(original?.transfer.state, noted.size === 4 ? "REVERSED" : "POSTED");
      }
      assert.deepEqual(
        one.batch.events.map(({ type, aggregateVersion }) => [type, aggregateVersion]),
        noted.size === 4 ? [["transfer_reversed", 2n]] : [],
      );
    }),
  );
});

test("what is not there cannot be noted, and what is not exhausted cannot be closed", () => {
  const one = scene([10n, 5n]);
  assert.throws(() => noteReversed(note(one.transferId, [2]), one.batch), /are not there/);
  assert.throws(() => noteReversed(note(newId("xfer", BUCKET), [0]), one.batch), /are not there/);
  assert.throws(() => closeRefunds(close(one.transferId, [0]), one.batch), /is not$/);
  evaluate(one, [
    [0, 10n],
    [1, 4n],
  ]);
  assert.throws(() => closeRefunds(close(one.transferId, [1]), one.batch), /is not$/);
  for (const _ of [1, 2]) {
    closeRefunds(close(one.transferId, [0]), one.batch);
    assert.equal(one.batch.refunds.get(postingName(one.transferUuid, 0))?.state, "NOTED");
  }
  assert.equal(evaluate(one, [[0, 1n]]), "REFUND_EXCEEDS_REMAINDER");
});
