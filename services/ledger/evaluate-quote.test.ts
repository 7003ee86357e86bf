import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Batch } from "#services/ledger/batch.ts";
import {
  refuseClaim,
  reopenQuote,
  reserveQuote,
  useOpenQuote,
  useReservedQuote,
} from "#services/ledger/evaluate-quote.ts";
import type { LockedQuote, QuoteClaim } from "#services/ledger/quote.ts";

const NOW_MS = Date.UTC(2026, 10, 21);

function quoteOf(change: Partial<LockedQuote> = {}): LockedQuote {
  return {
    quoteId: "quot_1",
    quoteUuid: "",
    bucket: 1,
    caller: "local",
    debitAccountId: undefined,
    rate: "1",
    sellCurrency: "EUR",
    sellMinorUnits: 1n,
    buyCurrency: "USD",
    buyMinorUnits: 1n,
    residueMinorUnits: 0n,
    createdAtMs: NOW_MS - 1,
    expireTimeMs: NOW_MS + 1,
    state: "OPEN",
    transferId: undefined,
    row: "unchanged",
    ...change,
  };
}

function batchOf(quote: LockedQuote | undefined, nowMs = NOW_MS): Batch {
  return {
    nowMs,
    accounts: new Map(),
    decisions: new Map(),
    holds: new Map(),
    refunds: new Map(),
    originals: new Map(),
    legs: new Map(),
    quotes: new Map(quote === undefined ? [] : [[quote.quoteId, quote]]),
    rates: new Map(),
    newRates: [],
    transfers: [],
    entries: [],
    events: [],
  };
}

const claimOf = (transferId: string, change: Partial<QuoteClaim> = {}): QuoteClaim => ({
  quoteId: "quot_1",
  transferId,
  caller: "local",
  debitAccountId: "acct_1",
  ...change,
});

/** The reason, and whether it is remembered. */
function refusalOf(quote: LockedQuote | undefined, claim = claimOf("xfer_1"), nowMs = NOW_MS): unknown {
  const refused = refuseClaim(claim, batchOf(quote, nowMs));
  return refused === undefined ? undefined : [refused.refusal.reason, refused.remembered];
}

test("a quote is for its caller, its account and its time", () => {
  assert.equal(refusalOf(quoteOf()), undefined);
  assert.deepEqual(refusalOf(undefined), ["QUOTE_NOT_FOUND", false]);
  assert.deepEqual(refusalOf(quoteOf({ caller: "other" })), ["QUOTE_NOT_FOUND", false]);
  assert.deepEqual(refusalOf(quoteOf({ debitAccountId: "acct_2" })), ["QUOTE_FOR_ANOTHER_ACCOUNT", true]);
  assert.equal(refusalOf(quoteOf({ debitAccountId: "acct_1" })), undefined);
  assert.equal(refusalOf(quoteOf({ expireTimeMs: NOW_MS + 1 })), undefined);
  assert.deepEqual(refusalOf(quoteOf({ expireTimeMs: NOW_MS })), ["QUOTE_EXPIRED", true]);
});

test("who has reserved a quote in time may use it later; another is told to try again, or that it is used", () => {
  const late = quoteOf({ state: "RESERVED", transferId: "xfer_1", expireTimeMs: NOW_MS - 1 });
  assert.equal(refusalOf(late), undefined);
  assert.deepEqual(refusalOf(late, claimOf("xfer_2")), ["QUOTE_BUSY", false]);
  const used = quoteOf({ state: "USED", transferId: "xfer_1", expireTimeMs: NOW_MS - 1 });
  assert.equal(refusalOf(used), undefined);
  assert.deepEqual(refusalOf(used, claimOf("xfer_2")), ["QUOTE_USED", true]);
});

test("whatever the order of steps, repeated ones included, one transfer uses the quote, and keeps it", () => {
  const steps = fc.array(
    fc.record({
      transferId: fc.constantFrom("xfer_1", "xfer_2", "xfer_3"),
      step: fc.constantFrom("reserve", "use", "use here", "reopen"),
    }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(steps, (taken) => {
      const quote = quoteOf();
      const batch = batchOf(quote);
      let user: string | undefined;
      for (const { transferId, step } of taken) {
        const claim = claimOf(transferId);
        const holder = quote.transferId;
        if (step === "reserve") {
          if (refuseClaim(claim, batch) === undefined) reserveQuote(claim, batch);
          else assert.notEqual(holder ?? transferId, transferId);
        } else if (step === "use") {
          // A transfer is committed only when it has the claim: anything else is a broken protocol.
          if (holder === transferId) {
            useReservedQuote(claim, batch);
            user ??= transferId;
          } else assert.throws(() => useReservedQuote(claim, batch), /has not reserved/);
        } else if (step === "use here") {
          if (quote.state === "OPEN") {
            useOpenQuote(claim, batch);
            user = transferId;
          } else assert.throws(() => useOpenQuote(claim, batch), /was to use it/);
        } else if (user === transferId) assert.throws(() => reopenQuote(claim, batch), /was to give it back/);
        else reopenQuote(claim, batch);
        if (user !== undefined) assert.deepEqual([quote.state, quote.transferId], ["USED", user]);
        assert.equal(quote.state === "OPEN", quote.transferId === undefined);
      }
    }),
  );
});

test("a row is written when it has changed, and one that the batch has made stays new", () => {
  const quote = quoteOf();
  reopenQuote(claimOf("xfer_1"), batchOf(quote));
  assert.equal(quote.row, "unchanged");
  reserveQuote(claimOf("xfer_1"), batchOf(quote));
  assert.equal(quote.row, "changed");
  const made = quoteOf({ row: "new" });
  useOpenQuote(claimOf("xfer_1"), batchOf(made));
  assert.deepEqual([made.row, made.state], ["new", "USED"]);
  assert.throws(() => useReservedQuote(claimOf("xfer_1"), batchOf(undefined)), /not there any more/);
});
