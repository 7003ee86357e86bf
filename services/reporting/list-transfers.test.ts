import assert from "node:assert/strict";
import { test } from "node:test";
import { Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { toTransfer } from "#services/reporting/list-transfers.ts";

test("a transfer is answered with every digit of its document", () => {
  const transfer = toTransfer({
    transfer_id: "xfer_1",
    state: "REVERSED",
    type: "transfer",
    memo: "lunch",
    postings: [
      {
        debit_account_id: "acct_1",
        credit_account_id: "acct_2",
        amount_minor_units: "9007199254740993",
        currency: "EUR",
      },
    ],
    account_ids: ["acct_1", "acct_2"],
    post_time: "2026-11-01T00:00:00.001Z",
    effective_time: "1993-01-01T00:00:00.000Z",
    shard: 1,
    event_number: "1",
  });
  assert.deepEqual(transfer, {
    transferId: "xfer_1",
    state: Transfer_State.REVERSED,
    type: "transfer",
    memo: "lunch",
    postings: [
      { debitAccountId: "acct_1", creditAccountId: "acct_2", amountMinorUnits: 9007199254740993n, currency: "EUR" },
    ],
    postTime: new Date("2026-11-01T00:00:00.001Z"),
    effectiveTime: new Date("1993-01-01T00:00:00Z"),
  });
});
