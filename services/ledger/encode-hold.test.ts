import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldChanged } from "#proto/ledgermesh/ledger/v1/events.ts";
import { Account_Kind, Account_Status, Hold_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { encodeHoldChanged } from "#services/ledger/encode-hold.ts";
import type { HoldSnapshot } from "#services/ledger/hold.ts";
import type { LockedAccount } from "#services/ledger/transfer.ts";

const HUGE = 9_007_199_254_740_993n;
const UUID = "019ac000-0000-7000-8000-000000000001";

const hold: HoldSnapshot = {
  holdId: "hold_1",
  holdUuid: UUID,
  bucket: 0,
  debit: { id: "acct_debit", uuid: UUID },
  credit: { id: "acct_credit", uuid: UUID },
  amountMinorUnits: HUGE,
  currency: "JPY",
  expireTimeMs: Date.UTC(2027, 10, 21, 12, 0, 0, 123),
  createTimeMs: Date.UTC(2026, 10, 21, 12, 0, 0, 1),
  capturedMinorUnits: HUGE - 1n,
  state: "EXPIRED",
  version: 7n,
};
const account: LockedAccount = {
  id: "acct_debit",
  uuid: UUID,
  ownerId: "user_1",
  currency: "JPY",
  kind: "WALLET",
  status: "ACTIVE",
  postedMinorUnits: HUGE,
  heldMinorUnits: HUGE,
  floorMinorUnits: 0n,
  version: 12n,
  entrySequence: 9n,
  lastPostTimeMs: 0,
  lastEffectiveTimeMs: 0,
  reference: 'quote " and backslash \\',
  preparedDebitMinorUnits: 0n,
  preparedCreditMinorUnits: 0n,
  touched: true,
};

test("the event of a hold, written by hand, is the message of the contract, with every digit", () => {
  const message = HoldChanged.fromJSON(JSON.parse(encodeHoldChanged(hold, account)));
  assert.deepEqual(message.hold, {
    holdId: "hold_1",
    version: 7n,
    debitAccountId: "acct_debit",
    creditAccountId: "acct_credit",
    amountMinorUnits: HUGE,
    capturedMinorUnits: HUGE - 1n,
    currency: "JPY",
    state: Hold_State.EXPIRED,
    expireTime: new Date(hold.expireTimeMs),
    createTime: new Date(hold.createTimeMs),
  });
  assert.deepEqual(message.account, {
    accountId: "acct_debit",
    version: 12n,
    ownerId: "user_1",
    currency: "JPY",
    kind: Account_Kind.WALLET,
    status: Account_Status.ACTIVE,
    postedMinorUnits: HUGE,
    heldMinorUnits: HUGE,
    floorMinorUnits: 0n,
    reference: account.reference,
  });
});

test("the event of a capture has no account, and no name that the contract does not know", () => {
  const text = encodeHoldChanged(hold, undefined);
  const message = HoldChanged.fromJSON(JSON.parse(text));
  assert.equal(message.account, undefined);
  const names = (json: object) => Object.keys(json).map((name) => name.replaceAll("_", "").toLowerCase());
  const written = JSON.parse(text);
  const known = HoldChanged.toJSON(message) as { hold: object };
  assert.deepEqual(new Set(names(written)), new Set(["hold"]));
  assert.deepEqual(new Set(names(written.hold)), new Set(names(known.hold)));
});
