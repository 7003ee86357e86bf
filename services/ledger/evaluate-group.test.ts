import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Refusal } from "#lib/refusal.ts";
import type { Batch } from "#services/ledger/batch.ts";
import { evaluateGroup, refuseGroup } from "#services/ledger/evaluate-group.ts";
import { evaluateTransfer } from "#services/ledger/evaluate-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { LockedAccount, TransferCommand } from "#services/ledger/transfer.ts";
import { batchOf, lockedAccount, type Move, transferCommand } from "#tests/evaluation.ts";

/** All that a group could change. */
const stateOf = ({ accounts, decisions, transfers, entries, events }: Batch) =>
  structuredClone({
    accounts: [...accounts.values()],
    decisions: [...decisions],
    transfers: transfers.map(({ transfer, event }) => ({ transfer, event })),
    entries,
    events,
  });

function reasonOf(evaluation: ReturnType<typeof evaluateGroup>): string {
  return evaluation.kind === "done" ? "MADE" : `${evaluation.refusal.reason} at ${evaluation.at}`;
}

test("a member may spend what one before it has brought, and not what one behind it will bring", () => {
  const group = (order: "in order" | "reversed") => {
    const [source, middle, target] = [lockedAccount(), lockedAccount({ postedMinorUnits: 0n }), lockedAccount()];
    const members = [transferCommand([[source, middle, 10n]]), transferCommand([[middle, target, 10n]])];
    const batch = batchOf([source, middle, target]);
    return reasonOf(evaluateGroup(order === "in order" ? members : members.toReversed(), batch));
  };
  assert.equal(group("in order"), "MADE");
  assert.equal(group("reversed"), "INSUFFICIENT_FUNDS at 0");
});

test("debited accounts with a floor are of one bucket in all of the group; those without do not count", () => {
  const [one, other] = [lockedAccount({}, 1), lockedAccount({}, 2)];
  const free = lockedAccount({ floorMinorUnits: undefined }, 2);
  const target = lockedAccount();
  const batch = batchOf([one, other, free, target]);
  const before = stateOf(batch);
  const limited = [
    transferCommand([[one, target, 1n]]),
    transferCommand([[free, target, 1n]]),
    transferCommand([[other, target, 1n]]),
  ];
  assert.equal(reasonOf(evaluateGroup(limited, batch)), "DEBITS_IN_SEVERAL_BUCKETS at 2");
  assert.deepEqual(stateOf(batch), before);
  assert.equal(reasonOf(evaluateGroup(limited.slice(0, 2), batch)), "MADE");
});

test("what another shard refuses refuses the group, with the member at fault and as it is to be remembered", () => {
  const [one, other] = [lockedAccount(), lockedAccount()];
  const refusedElsewhere = { refusal: refusals.accountNotActive("acct_far", "FROZEN"), remembered: true };
  const members = [
    transferCommand([[one, other, 1n]], { crossShard: true }),
    transferCommand([[one, other, 1n]], { crossShard: true, refusedElsewhere }),
  ];
  const batch = batchOf([one, other]);
  const before = stateOf(batch);
  const evaluation = evaluateGroup(members, batch);
  assert.equal(reasonOf(evaluation), "ACCOUNT_FROZEN at 1");
  assert.ok(evaluation.kind === "refused" && evaluation.remembered);
  assert.deepEqual(stateOf(batch), before);
});

test("a member that recovery has given up takes the whole group with it, and no decision is left", () => {
  const [one, other] = [lockedAccount(), lockedAccount()];
  const members = [
    transferCommand([[one, other, 1n]], { crossShard: true }),
    transferCommand([[one, other, 1n]], { crossShard: true }),
  ];
  const batch = batchOf([one, other]);
  const [, second] = members as [TransferCommand, TransferCommand];
  batch.decisions.set(second.transferId, {
    transferUuid: second.transferUuid,
    bucket: 1,
    state: "ABORTED",
    row: "unchanged",
  });
  const before = stateOf(batch);
  assert.equal(reasonOf(evaluateGroup(members, batch)), "TRANSFER_ABORTED at 1");
  assert.deepEqual(stateOf(batch), before);
});

test("each member is told its own reason or the group's; what may be tried again is told to all", () => {
  const keys = ["k0", "k1", "k2"];
  const [first, middle, last] = refuseGroup([undefined, refusals.accountNotFound("acct_1"), undefined], keys);
  assert.deepEqual(
    [first?.reason, middle?.reason, last?.reason],
    ["GROUP_REFUSED", "ACCOUNT_NOT_FOUND", "GROUP_REFUSED"],
  );
  assert.deepEqual(first?.metadata, {
    member_index: "1",
    member_idempotency_key: "k1",
    member_reason: "ACCOUNT_NOT_FOUND",
  });
  const away = refusals.shardUnavailable(2);
  assert.deepEqual(refuseGroup([undefined, away, undefined], keys), [away, away, away]);
  assert.ok(away instanceof Refusal);
});

test("whatever is in a group: it is what its members are one after the other, or nothing at all", () => {
  const move = fc.tuple(fc.nat(4), fc.nat(4), fc.bigInt(1n, 600n));
  const transfer = fc.record({ moves: fc.array(move, { minLength: 1, maxLength: 3 }), crossShard: fc.boolean() });
  const group = fc.array(transfer, { minLength: 1, maxLength: 5 });
  let made = 0;
  let refused = 0;
  fc.assert(
    fc.property(fc.array(group, { minLength: 1, maxLength: 6 }), (groups) => {
      const accounts = [
        lockedAccount(),
        lockedAccount({ floorMinorUnits: -200n }),
        lockedAccount({ floorMinorUnits: undefined }),
        lockedAccount({ postedMinorUnits: 100n }),
        lockedAccount({ status: "FROZEN" }),
      ];
      // The same members against two batches: as groups, and one by one with a copy to go back to.
      const real = batchOf(structuredClone(accounts));
      let model = batchOf(structuredClone(accounts));
      for (const transfers of groups) {
        const members = transfers.flatMap(({ moves, crossShard }) => {
          const between = moves.filter(([from, to]) => from !== to);
          if (between.length === 0) return [];
          const named = between.map(([from, to, amount]): Move => {
            return [accounts[from] as LockedAccount, accounts[to] as LockedAccount, amount];
          });
          return [transferCommand(named, { crossShard })];
        });
        if (members.length === 0) continue;
        const back = { ...structuredClone({ ...model, transfers: [] }), transfers: [...model.transfers] };
        const evaluations = [];
        for (const one of members) {
          evaluations.push(evaluateTransfer(one, model));
          if (evaluations.at(-1)?.kind === "refused") break;
        }
        const last = evaluations.at(-1);
        const result = evaluateGroup(members, real);
        if (last?.kind === "refused") {
          model = back;
          refused += 1;
          assert.ok(result.kind === "refused");
          assert.deepEqual(
            [result.at, result.refusal.message, result.remembered],
            [evaluations.length - 1, last.refusal.message, last.remembered],
          );
        } else {
          made += 1;
          assert.ok(result.kind === "done");
          assert.deepEqual(result.evaluations, evaluations);
        }
        assert.deepEqual(stateOf(real), stateOf(model));
      }
    }),
    { numRuns: 300 },
  );
  assert.ok(made > 50 && refused > 50, `made ${made}, refused ${refused}`);
});
