import assert from "node:assert/strict";
import { test } from "node:test";
import { AccountChanged } from "#proto/ledgermesh/ledger/v1/events.ts";
import { Account_Status } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { AccountChange } from "#services/ledger/command.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import { setAccountStatus } from "#services/ledger/evaluate-account-status.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";
import { batchOf, lockedAccount } from "#tests/evaluation.ts";

function evaluate(change: AccountChange, state: Partial<LockedAccount>, reason = "") {
  const account = lockedAccount({ postedMinorUnits: 0n, version: 4n, ...state }, 7);
  const batch = batchOf([account]);
  const key = commandKey({
    bucket: 7,
    caller: "local",
    method: `${change}_account`,
    key: "k",
    fingerprint: Buffer.alloc(32),
    resourceUuid: "",
    makes: undefined,
  });
  const before = structuredClone(account);
  const command = {
    kind: "set_account_status",
    key,
    name: key.text,
    weight: 1,
    accounts: [account],
    account,
    change,
    reason,
  } as const;
  const evaluation = setAccountStatus(command, batch);
  if (evaluation.kind === "refused") {
    assert.deepEqual(account, before, "a refused change has changed something");
    assert.deepEqual(batch.events, []);
    assert.ok(evaluation.remembered);
    assert.equal(evaluation.refusal.status, "FAILED_PRECONDITION");
  }
  return { outcome: evaluation.kind === "refused" ? evaluation.refusal.reason : account.status, account, batch };
}

test("every move that is drawn is made, and every other is refused with the present status as its reason", () => {
  const table: Readonly<Record<string, Readonly<Record<AccountChange, string>>>> = {
    ACTIVE: { freeze: "FROZEN", unfreeze: "ACCOUNT_ACTIVE", close: "CLOSED" },
    FROZEN: { freeze: "ACCOUNT_FROZEN", unfreeze: "ACTIVE", close: "CLOSED" },
    CLOSED: { freeze: "ACCOUNT_CLOSED", unfreeze: "ACCOUNT_CLOSED", close: "ACCOUNT_CLOSED" },
    PENDING: { freeze: "ACCOUNT_PENDING", unfreeze: "ACCOUNT_PENDING", close: "ACCOUNT_PENDING" },
  };
  for (const [status, moves] of Object.entries(table)) {
    for (const [change, expected] of Object.entries(moves)) {
      assert.equal(evaluate(change as AccountChange, { status }).outcome, expected, `${change} ${status}`);
    }
  }
});

test("an account is closed only when it is empty and nothing is under way, whatever its floor", () => {
  for (const status of ["ACTIVE", "FROZEN"]) {
    const close = (state: Partial<LockedAccount>) => evaluate("close", { status, ...state }).outcome;
    assert.equal(close({ postedMinorUnits: 1n }), "ACCOUNT_NOT_EMPTY");
    assert.equal(close({ postedMinorUnits: -1n, floorMinorUnits: undefined }), "ACCOUNT_NOT_EMPTY");
    assert.equal(close({ postedMinorUnits: 5n, heldMinorUnits: 5n }), "ACCOUNT_HAS_HOLDS");
    assert.equal(close({ preparedCreditMinorUnits: 1n }), "ACCOUNT_HAS_TRANSFERS_UNDER_WAY");
    assert.equal(close({ preparedDebitMinorUnits: 1n, floorMinorUnits: undefined }), "ACCOUNT_HAS_TRANSFERS_UNDER_WAY");
    assert.equal(close({ floorMinorUnits: undefined }), "CLOSED");
  }
});

test("what is under way to an account does not keep it from being frozen", () => {
  const busy = { postedMinorUnits: 5n, heldMinorUnits: 5n, preparedCreditMinorUnits: 1n };
  assert.equal(evaluate("freeze", busy).outcome, "FROZEN");
});

test("the transit account is left alone, and other system accounts may be frozen but never closed", () => {
  for (const change of ["freeze", "unfreeze", "close"] as const)
    assert.equal(evaluate(change, { reference: "system:transit" }).outcome, "ACCOUNT_RESERVED");
  assert.equal(evaluate("freeze", { reference: "system:cash" }).outcome, "FROZEN");
  assert.equal(evaluate("unfreeze", { reference: "system:cash", status: "FROZEN" }).outcome, "ACTIVE");
  assert.equal(evaluate("close", { reference: "system:cash" }).outcome, "SYSTEM_ACCOUNT_STAYS_OPEN");
});

test("the event is the message of the contract, and the version rises by one", () => {
  const awkward = 'quote " backslash \\ emoji 🪙';
  const { account, batch } = evaluate(
    "freeze",
    { postedMinorUnits: 9_007_199_254_740_993n, reference: awkward },
    awkward,
  );
  const [event] = batch.events;
  assert.ok(event);
  assert.deepEqual(
    [event.type, event.aggregateId, event.aggregateVersion, event.bucket],
    ["account_changed", account.id, 5n, 7],
  );
  assert.deepEqual([account.version, account.touched, account.entrySequence], [5n, true, 0n]);
  const message = AccountChanged.fromJSON(JSON.parse(event.payload));
  assert.deepEqual([message.reason, message.account?.reference], [awkward, awkward]);
  assert.deepEqual([message.account?.status, message.account?.version], [Account_Status.FROZEN, 5n]);
  assert.equal(message.account?.postedMinorUnits, 9_007_199_254_740_993n);
  const written = AccountChanged.toJSON(message) as { account: object };
  const wanted = JSON.parse(event.payload);
  assert.deepEqual(
    [Object.keys(written), Object.keys(written.account).length],
    [Object.keys(wanted), Object.keys(wanted.account).length - 2],
  );
});
