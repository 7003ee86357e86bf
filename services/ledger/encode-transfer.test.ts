import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AccountCreated,
  TransferLegPosted,
  TransferPosted,
  TransferReversed,
} from "#proto/ledgermesh/ledger/v1/events.ts";
import { Account_Kind, Account_Status, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { commandKey } from "#services/ledger/command-key.ts";
import {
  decodeTransfer,
  encodeBalances,
  encodeLegPosted,
  encodeLinks,
  encodePostings,
  encodeTransferPosted,
  encodeTransferReversed,
} from "#services/ledger/encode-transfer.ts";
import { encodeAccountCreated } from "#services/ledger/open-accounts.ts";
import type { EntryLine, LockedAccount, PostedTransfer } from "#services/ledger/transfer.ts";

const HUGE = 9_007_199_254_740_993n;
const AWKWARD = 'quote " backslash \\ braces {}, emoji 🪙, line\u2028separator';

function account(id: string, floorMinorUnits: bigint | undefined): LockedAccount {
  return {
    id,
    uuid: "019ac000-0000-7000-8000-000000000001",
    ownerId: "user_01k",
    currency: "JPY",
    kind: "WALLET",
    status: "ACTIVE",
    postedMinorUnits: -HUGE,
    heldMinorUnits: 3n,
    floorMinorUnits,
    version: 12n,
    entrySequence: 9n,
    lastPostTimeMs: 0,
    lastEffectiveTimeMs: 0,
    reference: AWKWARD,
    preparedDebitMinorUnits: 0n,
    preparedCreditMinorUnits: 0n,
    touched: true,
  };
}

const debit = account("acct_debit", undefined);
const credit = account("acct_credit", -5n);
const transfer: PostedTransfer = {
  transferId: "xfer_1",
  state: "POSTED",
  type: "salary",
  memo: AWKWARD,
  metadata: { [AWKWARD]: AWKWARD },
  postings: [{ debitAccountId: debit.id, creditAccountId: credit.id, amountMinorUnits: HUGE, currency: "JPY" }],
  balances: [{ accountId: debit.id, postedMinorUnits: -HUGE, heldMinorUnits: 3n, version: 12n }],
  postTimeMs: Date.UTC(2026, 10, 21, 12, 0, 0, 123),
  effectiveTimeMs: Date.UTC(1993, 0, 1),
  links: { holdId: "hold_1", reversesTransferId: "xfer_0", reversesPostingIndexes: [3, 5], quoteId: "quot_1" },
};
const entries: EntryLine[] = [
  {
    account: debit,
    sequence: 9n,
    postingIndex: 0,
    amountMinorUnits: -HUGE,
    balanceAfterMinorUnits: -HUGE,
    currency: "JPY",
    counterparty: credit,
  },
];

test("the event written by hand is the message of the contract", () => {
  const text = encodeTransferPosted(transfer, entries, [debit, credit]);
  const message = TransferPosted.fromJSON(JSON.parse(text));
  assert.equal(message.state, Transfer_State.POSTED);
  assert.equal(message.memo, AWKWARD);
  assert.deepEqual(message.metadata, { [AWKWARD]: AWKWARD });
  assert.equal(message.entries[0]?.amountMinorUnits, -HUGE);
  assert.equal(message.accounts[0]?.floorMinorUnits, undefined);
  assert.equal(message.accounts[1]?.floorMinorUnits, -5n);
  assert.equal(message.accounts[0]?.kind, Account_Kind.WALLET);
  assert.equal(message.accounts[0]?.status, Account_Status.ACTIVE);
  assert.deepEqual([message.holdId, message.reversesTransferId, message.quoteId], ["hold_1", "xfer_0", "quot_1"]);
  assert.deepEqual(message.reversesPostingIndexes, [3, 5]);
  assert.equal(message.postTime?.getTime(), transfer.postTimeMs);
  assert.equal(message.effectiveTime?.getTime(), transfer.effectiveTimeMs);
  // Nothing is written that the contract does not know: read and written again, it has the same names.
  assert.deepEqual(namesOf(TransferPosted.toJSON(message)), namesOf(JSON.parse(text)));
});

test("the event of a transfer that is taken back is the message of the contract, and the whole transfer", () => {
  const text = encodeTransferReversed({ ...transfer, state: "REVERSED" }, HUGE);
  const message = TransferReversed.fromJSON(JSON.parse(text));
  assert.deepEqual([message.state, message.postedEventNumber], [Transfer_State.REVERSED, HUGE]);
  assert.deepEqual(namesOf(TransferReversed.toJSON(message)), namesOf(JSON.parse(text)));
  const { entries: _, accounts: __, ...posted } = JSON.parse(encodeTransferPosted(transfer, entries, [debit]));
  const { posted_event_number: ___, ...reversed } = JSON.parse(text);
  assert.deepEqual(reversed, { ...posted, state: "REVERSED" });
});

test("the event of a leg is the message of the contract", () => {
  const leg = {
    transferId: "xfer_1",
    transferUuid: debit.uuid,
    postingIndex: 0,
    bucket: 1,
    debit,
    credit,
    debitIsHere: false,
    creditIsHere: true,
    amountMinorUnits: HUGE,
    currency: "JPY",
    type: "salary",
    memo: AWKWARD,
    effectiveTimeMs: undefined,
  };
  const text = encodeLegPosted(leg, entries, [credit], transfer.postTimeMs, transfer.effectiveTimeMs);
  const message = TransferLegPosted.fromJSON(JSON.parse(text));
  assert.deepEqual([message.transferId, message.type, message.memo], ["xfer_1", "salary", AWKWARD]);
  assert.equal(message.effectiveTime?.getTime(), transfer.effectiveTimeMs);
  assert.deepEqual(namesOf(TransferLegPosted.toJSON(message)), namesOf(JSON.parse(text)));
});

/** Every name in a JSON value, in camelCase, without `posting_index`: a zero may be left out. */
function namesOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(namesOf);
  if (typeof value !== "object" || value === null) return 0;
  const pairs = Object.entries(value).map(([name, inner]) => [
    name.replaceAll(/_[a-z]/g, (letter) => letter[1]?.toUpperCase() ?? ""),
    namesOf(inner),
  ]);
  return Object.fromEntries(pairs.filter(([name]) => name !== "postingIndex"));
}

test("the event of a new account is the message of the contract", () => {
  const message = AccountCreated.fromJSON(
    JSON.parse(
      encodeAccountCreated({
        key: commandKey({
          bucket: 1,
          caller: "local",
          method: "create_account",
          key: "k",
          fingerprint: Buffer.alloc(32),
          resourceUuid: "",
          makes: "acct",
        }),
        accountId: "acct_1",
        bucket: 1,
        ownerId: "user_1",
        currency: "EUR",
        kind: "MERCHANT",
        floorMinorUnits: -HUGE,
        reference: AWKWARD,
        metadata: {},
      }),
    ),
  );
  assert.equal(message.account?.floorMinorUnits, -HUGE);
  assert.equal(message.account?.kind, Account_Kind.MERCHANT);
  assert.equal(message.account?.reference, AWKWARD);
});

test("the columns of a transfer say what was answered", () => {
  const decoded = decodeTransfer("xfer_1", {
    state: "POSTED",
    type: "salary",
    memo: AWKWARD,
    metadata: { [AWKWARD]: AWKWARD },
    postings: JSON.parse(encodePostings(transfer)),
    balances: JSON.parse(encodeBalances(transfer.balances)),
    postTimeMs: transfer.postTimeMs,
    effectiveTimeMs: transfer.effectiveTimeMs,
    links: JSON.parse(encodeLinks(transfer.links) ?? "null"),
  });
  assert.deepEqual(decoded, transfer);
});
