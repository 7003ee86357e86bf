import assert from "node:assert/strict";
import { test } from "node:test";
import { toEntry } from "#services/reporting/list-entries.ts";

test("an entry is answered with every digit of its document", () => {
  const entry = toEntry({
    account_id: "acct_1",
    sequence: "9223372036854775807",
    transfer_id: "xfer_1",
    posting_index: 0,
    amount_minor_units: "-9007199254740993",
    balance_after_minor_units: "-9223372036854775808",
    currency: "JPY",
    type: "transfer",
    memo: "",
    counterparty_account_id: "acct_2",
    post_time: "2026-11-01T00:00:00.001Z",
    effective_time: "1993-01-01T00:00:00.000Z",
    shard: 1,
    event_number: "1",
  });
  assert.deepEqual(entry, {
    accountId: "acct_1",
    sequence: 9223372036854775807n,
    transferId: "xfer_1",
    amountMinorUnits: -9007199254740993n,
    balanceAfterMinorUnits: -9223372036854775808n,
    currency: "JPY",
    type: "transfer",
    memo: "",
    counterpartyAccountId: "acct_2",
    postTime: new Date("2026-11-01T00:00:00.001Z"),
    effectiveTime: new Date("1993-01-01T00:00:00Z"),
  });
});
