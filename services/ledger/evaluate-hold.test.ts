import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { idGenerator, idToUuid } from "#lib/ids.ts";
import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import type { Batch, Evaluation } from "#services/ledger/batch.ts";
import type { SingleCommand } from "#services/ledger/command.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import { evaluateCommand } from "#services/ledger/evaluate-command.ts";
import { DEFAULT_HOLD_MS, MAX_HOLD_MS } from "#services/ledger/evaluate-hold.ts";
import type { HoldCapture, LockedHold } from "#services/ledger/hold.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";
import { batchOf, lockedAccount, NOW_MS } from "#tests/evaluation.ts";

const START_MS = NOW_MS;
const newId = idGenerator(() => START_MS);
const KEY = commandKey({
  bucket: 1,
  caller: "local",
  method: "m",
  key: "k",
  fingerprint: Buffer.alloc(32),
  resourceUuid: "",
  makes: undefined,
});

/** A shard with accounts and a clock; every command is decided on what the one before has left. */
interface World {
  readonly batch: Batch & { nowMs: number };
  readonly accounts: readonly LockedAccount[];
  readonly holds: LockedHold[];
}

function world(...changes: Partial<LockedAccount>[]): World {
  const accounts = changes.map((change) => lockedAccount(change));
  const batch = { ...batchOf(accounts), nowMs: START_MS };
  return { batch, accounts, holds: [] };
}

const base = { key: KEY, name: "n", weight: 1, accounts: [] };

/** Answers `DONE` or the reason of the refusal, and whether it would not be remembered under its key. */
function run({ batch }: World, command: SingleCommand): string {
  const evaluation: Evaluation = evaluateCommand(command, batch);
  if (evaluation.kind === "done") return "DONE";
  return evaluation.remembered ? evaluation.refusal.reason : `${evaluation.refusal.reason}, not remembered`;
}

function create(at: World, debit: number, credit: number, amountMinorUnits: bigint, expireTimeMs?: number): string {
  const holdId = newId("hold", 1);
  const [debitAccount, creditAccount] = [at.accounts[debit] as LockedAccount, at.accounts[credit] as LockedAccount];
  const done = run(at, {
    ...base,
    kind: "create_hold",
    holdId,
    holdUuid: idToUuid(holdId),
    bucket: 1,
    debit: debitAccount,
    credit: creditAccount,
    creditIsHere: true,
    amountMinorUnits,
    currency: "EUR",
    expireTimeMs,
    refusedElsewhere: undefined,
  });
  const hold = at.batch.holds.get(holdId);
  if (hold !== undefined) at.holds.push(hold);
  return done;
}

function move(
  at: World,
  debit: { id: string; uuid: string },
  credit: { id: string; uuid: string },
  amountMinorUnits: bigint,
  capture?: HoldCapture,
): string {
  const transferId = newId("xfer", 1);
  const sides = { amountMinorUnits, currency: "EUR" };
  return run(at, {
    ...base,
    kind: "transfer",
    key: KEY,
    transferId,
    transferUuid: idToUuid(transferId),
    bucket: 1,
    postings: [{ debitAccountId: debit.id, creditAccountId: credit.id, ...sides }],
    local: [{ index: 0, debit, credit, ...sides, debitCounterparty: credit, creditCounterparty: debit }],
    type: "capture",
    memo: "",
    metadata: {},
    effectiveTimeMs: undefined,
    links: capture === undefined ? undefined : { holdId: capture.holdId },
    capture,
    reversal: undefined,
    quote: undefined,
    crossShard: false,
    refusedElsewhere: undefined,
  });
}

/** Of a hold in the order of their making; all that is left unless an amount is given. */
function capture(at: World, index: number, amountMinorUnits?: bigint, final = false): string {
  const hold = at.holds[index] as LockedHold;
  const left = hold.state === "OPEN" ? hold.amountMinorUnits - hold.capturedMinorUnits : 0n;
  const isRest = amountMinorUnits === undefined;
  return move(at, hold.debit, hold.credit, amountMinorUnits ?? left, { holdId: hold.holdId, isRest, final });
}

function end(at: World, kind: "void_hold" | "expire_hold", index: number): string {
  return run(at, { ...base, kind, holdId: at.holds[index]?.holdId as string });
}

const held = (at: World, index = 0) => at.accounts[index]?.heldMinorUnits;

test("a hold down to the floor is made, one minor unit more is refused", () => {
  for (const [floorMinorUnits, most] of [
    [0n, 1_000n],
    [-50n, 1_050n],
  ] as const) {
    const at = world({ floorMinorUnits }, {});
    assert.equal(create(at, 0, 1, most + 1n), "INSUFFICIENT_FUNDS");
    assert.equal(create(at, 0, 1, most), "DONE");
    assert.equal(create(at, 0, 1, 1n), "INSUFFICIENT_FUNDS");
  }
});

test("an unbounded account may hold what fits 64 bits, on both ends", () => {
  const full = world({ floorMinorUnits: undefined, postedMinorUnits: MAX_MINOR_UNITS }, {});
  assert.equal(create(full, 0, 1, MAX_MINOR_UNITS), "DONE");
  assert.equal(create(full, 0, 1, 1n), "BALANCE_OVERFLOW");
  const empty = world({ floorMinorUnits: undefined, postedMinorUnits: MIN_MINOR_UNITS + 10n }, {});
  assert.equal(create(empty, 0, 1, 11n), "BALANCE_OVERFLOW");
  assert.equal(create(empty, 0, 1, 10n), "DONE");
  const kept = { floorMinorUnits: undefined, postedMinorUnits: MIN_MINOR_UNITS + 10n, preparedDebitMinorUnits: 4n };
  const prepared = world(kept, {});
  assert.equal(create(prepared, 0, 1, 7n), "BALANCE_OVERFLOW");
  assert.equal(create(prepared, 0, 1, 6n), "DONE");
});

test("the last moment of a hold is the one before its expire_time, whether a worker has come or not", () => {
  for (const act of [(at: World) => capture(at, 0), (at: World) => end(at, "void_hold", 0)]) {
    const inTime = world({}, {});
    create(inTime, 0, 1, 10n, START_MS + 1_000);
    inTime.batch.nowMs = START_MS + 999;
    assert.equal(act(inTime), "DONE");
    const late = world({}, {});
    create(late, 0, 1, 10n, START_MS + 1_000);
    late.batch.nowMs = START_MS + 1_000;
    assert.equal(act(late), "HOLD_EXPIRED");
    assert.equal(held(late), 10n);
  }
});

test("a worker that comes too early, twice or for nothing changes nothing", () => {
  const at = world({}, {});
  create(at, 0, 1, 10n, START_MS + 1_000);
  for (const [nowMs, left, version] of [
    [START_MS + 999, 10n, 1n],
    [START_MS + 1_000, 0n, 2n],
    [START_MS + 2_000, 0n, 2n],
  ] as const) {
    at.batch.nowMs = nowMs;
    assert.equal(end(at, "expire_hold", 0), "DONE");
    assert.deepEqual([held(at), at.holds[0]?.version], [left, version]);
  }
  assert.equal(run(at, { ...base, kind: "expire_hold", holdId: newId("hold", 1) }), "DONE");
  assert.equal(at.batch.events.length, 2);
});

test("expire_time: 7 days from now when not given, in the future, at most 365 days ahead", () => {
  const at = world({}, {});
  create(at, 0, 1, 1n);
  assert.equal(at.holds[0]?.expireTimeMs, START_MS + DEFAULT_HOLD_MS);
  assert.equal(create(at, 0, 1, 1n, START_MS), "EXPIRE_TIME_IN_PAST");
  assert.equal(create(at, 0, 1, 1n, START_MS + 1), "DONE");
  assert.equal(create(at, 0, 1, 1n, START_MS + MAX_HOLD_MS), "DONE");
  assert.equal(create(at, 0, 1, 1n, START_MS + MAX_HOLD_MS + 1), "EXPIRE_TIME_TOO_FAR");
});

test("a capture of the rest that was read before another capture is not made, and not remembered", () => {
  const at = world({}, {});
  create(at, 0, 1, 10n);
  const hold = at.holds[0] as LockedHold;
  capture(at, 0, 4n);
  const stale = { holdId: hold.holdId, isRest: true, final: false };
  for (const read of [10n, 5n]) {
    assert.equal(move(at, hold.debit, hold.credit, read, stale), "HOLD_CONTENDED, not remembered");
  }
  assert.equal(move(at, hold.debit, hold.credit, 6n, stale), "DONE");
  assert.equal(hold.state, "CAPTURED");
});

test("a capture whose credit account is full leaves the hold as it was", () => {
  const at = world({}, { postedMinorUnits: MAX_MINOR_UNITS });
  create(at, 0, 1, 10n);
  const before = structuredClone([at.accounts, at.holds]);
  assert.equal(capture(at, 0, 4n, true), "BALANCE_OVERFLOW");
  assert.deepEqual([at.accounts, at.holds], before);
});

test("a capture that goes elsewhere than its hold is a defect", () => {
  const at = world({}, {}, {});
  create(at, 0, 1, 10n);
  const [{ holdId, debit }, third] = [at.holds[0] as LockedHold, at.accounts[2] as LockedAccount];
  assert.throws(() => move(at, debit, third, 1n, { holdId, isRest: false, final: false }), /goes elsewhere/);
});

/** What should become of it, said in the plainest words. */
function expectedOf(at: World, step: Step): string {
  if (step.kind === "wait") return "DONE";
  if (step.kind === "create" || step.kind === "transfer") {
    const payer = at.accounts[step.from] as LockedAccount;
    const left = payer.postedMinorUnits - payer.heldMinorUnits - step.amount;
    return payer.floorMinorUnits !== undefined && left < payer.floorMinorUnits ? "INSUFFICIENT_FUNDS" : "DONE";
  }
  const hold = at.holds[step.hold % at.holds.length] as LockedHold;
  if (step.kind === "expire") return "DONE";
  if (hold.state !== "OPEN") return `HOLD_${hold.state}`;
  if (at.batch.nowMs >= hold.expireTimeMs) return "HOLD_EXPIRED";
  const left = hold.amountMinorUnits - hold.capturedMinorUnits;
  return step.kind === "capture" && (step.amount ?? 0n) > left ? "CAPTURE_EXCEEDS_HOLD" : "DONE";
}

type Step =
  | { kind: "create"; from: number; to: number; amount: bigint; seconds: number }
  | { kind: "transfer"; from: number; to: number; amount: bigint }
  | { kind: "capture"; hold: number; amount: bigint | undefined; final: boolean }
  | { kind: "void" | "expire"; hold: number }
  | { kind: "wait"; seconds: number };

function take(at: World, step: Step): string {
  const holdIndex = "hold" in step ? step.hold % at.holds.length : 0;
  switch (step.kind) {
    case "create":
      return create(at, step.from, step.to, step.amount, at.batch.nowMs + step.seconds * 1_000);
    case "transfer":
      return move(at, at.accounts[step.from] as LockedAccount, at.accounts[step.to] as LockedAccount, step.amount);
    case "capture":
      return capture(at, holdIndex, step.amount, step.final);
    case "void":
      return end(at, "void_hold", holdIndex);
    case "expire":
      return end(at, "expire_hold", holdIndex);
    case "wait":
      at.batch.nowMs += step.seconds * 1_000;
      return "DONE";
  }
}

test("whatever is authorised, captured, voided, expired and transferred: held is what open holds have left", () => {
  const amount = fc.bigInt(1n, 600n);
  const pairs = [0, 1, 2].flatMap((from) => [1, 2].map((ahead) => ({ from, to: (from + ahead) % 3 })));
  const sides = fc.constantFrom(...pairs);
  const holdIndex = fc.nat(20);
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 3,
      arbitrary: fc
        .tuple(sides, amount, fc.integer({ min: 1, max: 60 }))
        .map(([side, amount, seconds]) => ({ kind: "create" as const, ...side, amount, seconds })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(sides, amount).map(([side, amount]) => ({ kind: "transfer" as const, ...side, amount })),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("capture" as const),
        hold: holdIndex,
        amount: fc.option(fc.bigInt(1n, 300n), { nil: undefined }),
        final: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("void" as const, "expire" as const), hold: holdIndex }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("wait" as const), seconds: fc.integer({ min: 1, max: 30 }) }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const at = world({}, { floorMinorUnits: -500n }, { floorMinorUnits: undefined, postedMinorUnits: 0n });
      for (const one of steps) {
        if ("hold" in one && at.holds.length === 0) continue;
        const expected = expectedOf(at, one);
        const before = structuredClone([at.accounts, at.holds]);
        const events = at.batch.events.length;
        assert.equal(take(at, one), expected);
        if (expected !== "DONE") {
          assert.deepEqual([at.accounts, at.holds], before);
          assert.equal(at.batch.events.length, events);
        }
        if (one.kind === "capture" && one.final && expected === "DONE") {
          assert.equal(at.holds[one.hold % at.holds.length]?.state, "CAPTURED");
        }
        assertSound(at);
      }
    }),
    { numRuns: 300 },
  );
});

function assertSound({ accounts, holds, batch }: World): void {
  let posted = 0n;
  for (const { id, postedMinorUnits, heldMinorUnits, floorMinorUnits } of accounts) {
    const open = holds.filter(({ debit, state }) => debit.id === id && state === "OPEN");
    const left = open.reduce((sum, hold) => sum + hold.amountMinorUnits - hold.capturedMinorUnits, 0n);
    assert.equal(heldMinorUnits, left);
    if (floorMinorUnits !== undefined) assert.ok(postedMinorUnits - heldMinorUnits >= floorMinorUnits);
    posted += postedMinorUnits;
  }
  assert.equal(posted, 2_000n);
  for (const { holdId, state, amountMinorUnits, capturedMinorUnits, version } of holds) {
    assert.ok(capturedMinorUnits >= 0n && capturedMinorUnits <= amountMinorUnits);
    if (capturedMinorUnits === amountMinorUnits) assert.equal(state, "CAPTURED");
    if (state === "CAPTURED") assert.ok(capturedMinorUnits > 0n);
    const events = batch.events.filter(({ aggregateId }) => aggregateId === holdId);
    assert.deepEqual(
      events.map(({ aggregateVersion }) => aggregateVersion),
      Array.from({ length: Number(version) }, (_, index) => BigInt(index + 1)),
    );
  }
}
