import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReceivedEvent } from "#lib/events.ts";
import { idGenerator } from "#lib/ids.ts";
import { project } from "#services/projector/project.ts";

const BEYOND_DOUBLE = "9007199254740993";
const ID_TIME_MS = Date.UTC(2026, 9, 31, 23, 59, 59, 999);
const newId = idGenerator(() => ID_TIME_MS);
const [payer, payee, transferId] = [newId("acct", 1), newId("acct", 2), newId("xfer", 1)];

const payerSnapshot = {
  account_id: payer,
  version: "3",
  owner_id: "user_1",
  currency: "EUR",
  kind: "WALLET",
  status: "ACTIVE",
  posted_minor_units: BEYOND_DOUBLE,
  floor_minor_units: "0",
  reference: "main",
};

const transferPosted = (changes: object = {}): ReceivedEvent => ({
  number: 42n,
  type: "transfer_posted",
  schemaVersion: 1,
  aggregateId: transferId,
  aggregateVersion: 1n,
  data: {
    transfer_id: transferId,
    state: "POSTED",
    type: "transfer",
    memo: "lunch",
    metadata: { order: "7" },
    postings: [
      { debit_account_id: payer, credit_account_id: payee, amount_minor_units: BEYOND_DOUBLE, currency: "EUR" },
    ],
    entries: [
      {
        account_id: payer,
        sequence: "2",
        amount_minor_units: `-${BEYOND_DOUBLE}`,
        balance_after_minor_units: "0",
        currency: "EUR",
        counterparty_account_id: payee,
      },
      {
        account_id: payee,
        sequence: "5",
        amount_minor_units: BEYOND_DOUBLE,
        balance_after_minor_units: BEYOND_DOUBLE,
        currency: "EUR",
        counterparty_account_id: payer,
      },
    ],
    accounts: [payerSnapshot, { ...payerSnapshot, account_id: payee, version: "6", floor_minor_units: undefined }],
    post_time: "2026-11-01T00:00:00.001Z",
    effective_time: "1993-01-01T00:00:00Z",
    ...changes,
  },
});

test("a transfer becomes itself, its entries and its accounts, with every digit", () => {
  const documents = project(2, transferPosted());
  const ids = documents.map(({ family, month, id, version }) => [family, month, id, version]);
  assert.deepEqual(ids, [
    ["transfers", "2026.10", transferId, 1n],
    ["entries", "2026.11", `${payer}:2`, 1n],
    ["entries", "2026.11", `${payee}:5`, 1n],
    ["accounts", undefined, payer, 3n],
    ["accounts", undefined, payee, 6n],
  ]);
  assert.deepEqual(documents[0]?.source, {
    transfer_id: transferId,
    state: "POSTED",
    postings: [
      { debit_account_id: payer, credit_account_id: payee, amount_minor_units: BEYOND_DOUBLE, currency: "EUR" },
    ],
    account_ids: [payer, payee],
    type: "transfer",
    memo: "lunch",
    post_time: "2026-11-01T00:00:00.001Z",
    effective_time: "1993-01-01T00:00:00.000Z",
    shard: 2,
    event_number: "42",
  });
  assert.deepEqual(documents[1]?.source, {
    account_id: payer,
    sequence: "2",
    transfer_id: transferId,
    posting_index: 0,
    amount_minor_units: `-${BEYOND_DOUBLE}`,
    balance_after_minor_units: "0",
    currency: "EUR",
    counterparty_account_id: payee,
    type: "transfer",
    memo: "lunch",
    post_time: "2026-11-01T00:00:00.001Z",
    effective_time: "1993-01-01T00:00:00.000Z",
    shard: 2,
    event_number: "42",
  });
  assert.deepEqual(documents[3]?.source, {
    account_id: payer,
    version: "3",
    owner_id: "user_1",
    currency: "EUR",
    kind: "WALLET",
    status: "ACTIVE",
    posted_minor_units: BEYOND_DOUBLE,
    held_minor_units: "0",
    floor_minor_units: "0",
    reference: "main",
    shard: 2,
    event_number: "42",
  });
  const unbounded = documents[4]?.source;
  assert.ok(unbounded !== undefined && "floor_minor_units" in unbounded);
  assert.equal(unbounded.floor_minor_units, null);
});

test("a transfer that was taken back becomes its document again, in a higher version and at its first number", () => {
  const { entries: _, accounts: __, ...transfer } = transferPosted().data as Record<string, unknown>;
  const event: ReceivedEvent = {
    ...transferPosted(),
    number: 99n,
    type: "transfer_reversed",
    aggregateVersion: 2n,
    data: { ...transfer, state: "REVERSED", posted_event_number: "42" },
  };
  const [first] = project(2, transferPosted());
  assert.ok(first !== undefined);
  assert.deepEqual(project(2, event), [
    { ...first, version: 2n, source: { ...first.source, state: "REVERSED", event_number: "42" } },
  ]);
});

test("an account that was opened becomes its document", () => {
  const event = { ...transferPosted(), type: "account_created", data: { account: payerSnapshot } };
  const documents = project(1, event);
  assert.deepEqual(
    documents.map(({ family, id, version }) => [family, id, version]),
    [["accounts", payer, 3n]],
  );
});

test("an account that was frozen or closed becomes its document anew", () => {
  const account = { ...payerSnapshot, status: "CLOSED", version: "4" };
  const event = { ...transferPosted(), type: "account_changed", data: { account, reason: "asked for" } };
  const [document, ...others] = project(1, event);
  assert.deepEqual([document?.family, document?.id, document?.version, others], ["accounts", payer, 4n, []]);
  assert.ok(document !== undefined && "status" in document.source);
  assert.equal(document.source.status, "CLOSED");
});

test("a hold that changed gives the document of its account; a capture leaves that to its transfer", () => {
  const hold = { hold_id: newId("hold", 1), version: "2", state: "VOIDED" };
  const changed = (data: object) => project(1, { ...transferPosted(), type: "hold_changed", data });
  const documents = changed({ hold, account: { ...payerSnapshot, held_minor_units: "7" } });
  assert.deepEqual(
    documents.map(({ family, id, version }) => [family, id, version]),
    [["accounts", payer, 3n]],
  );
  const source = documents[0]?.source;
  assert.ok(source !== undefined && "held_minor_units" in source);
  assert.equal(source.held_minor_units, "7");
  assert.deepEqual(changed({ hold }), []);
});

test("rates and quotes make no document", () => {
  for (const type of ["rates_set", "quote_created"]) assert.deepEqual(project(1, { ...transferPosted(), type }), []);
});

test("an event that comes again gives the same documents", () => {
  assert.deepEqual(project(1, transferPosted()), project(1, transferPosted()));
});

test("an event that no document can be made of says why", () => {
  const unknown: [ReceivedEvent, RegExp][] = [
    [{ ...transferPosted(), type: "moon_landed" }, /moon_landed\.v1 are not known/],
    [{ ...transferPosted(), schemaVersion: 2 }, /transfer_posted\.v2 are not known/],
    [{ ...transferPosted(), type: "account_created", data: {} }, /no account/],
    [{ ...transferPosted(), type: "account_changed", data: {} }, /no account/],
    [transferPosted({ post_time: undefined }), /post_time is no time/],
    [transferPosted({ effective_time: "yesterday" }), /effective_time is no time/],
    [transferPosted({ post_time: "+012026-01-01T00:00:00Z" }), /beyond the year 9999/],
    [transferPosted({ transfer_id: payer }), /is no id of a transfer/],
  ];
  for (const [event, reason] of unknown) assert.throws(() => project(1, event), reason);
});
