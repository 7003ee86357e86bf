// Runs alone: it sends thousands of requests, and sets rates.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { developmentToken } from "#infra/local/development-key.ts";
import { call } from "#lib/grpc-client.ts";
import { CreateHoldRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { quoteOf, setRate } from "#tests/exchange.ts";
import { type FuzzRun, fuzz, fuzzSeed } from "#tests/fuzz.ts";
import { ledger, newKey, openAccount, openFunded, stackName, transfer } from "#tests/stack.ts";

/** The ledger and its history, as a service asks for them. */

/** Mostly that of the accounts; the others are exchanged by no other test. */
const CURRENCIES = ["EUR", "EUR", "EUR", "EUR", "ISK", "JMD"];
let operations: Omit<FuzzRun, "phase">;

before(async () => {
  const accounts = await Promise.all([1, 2, 3, 1].map((shard) => openFunded(1_000_000n, {}, shard)));
  const [first = "", second = "", third = ""] = accounts.map(({ accountId }) => accountId);
  const krona = await openAccount({ currency: "ISK" });
  // They will be frozen and closed sooner or later; nothing else is to fail for that.
  const doomed = await Promise.all([openAccount(), openAccount(), openFunded(5n)]);
  await setRate("EUR", "ISK", "140.5");
  const transfers = await Promise.all([transfer(first, second, 500n), transfer(second, third, 700n)]);
  const holds = await Promise.all(
    [900n, 80n].map((amountMinorUnits) => {
      const accounts = { debitAccountId: first, creditAccountId: second, currency: "EUR" };
      const hold = CreateHoldRequest.fromPartial({ ...accounts, amountMinorUnits, idempotencyKey: newKey() });
      return call(ledger, ledger.createHold, hold);
    }),
  );
  const quotes = await Promise.all([quoteOf("EUR", "ISK", { sell: 1_000n }), quoteOf("EUR", "ISK", { sell: 10n })]);
  const accountIds = [...accounts.map(({ accountId }) => accountId), krona.accountId];
  const { token } = await developmentToken(stackName, "service", "service:console");
  operations = {
    token,
    selected: ["--include-tag", "Ledger", "--include-tag", "History"],
    pool: {
      account_id: doomed.map(({ accountId }) => accountId),
      debit_account_id: accountIds,
      credit_account_id: [...accountIds, "system:cash"],
      owner_id: accounts.map(({ ownerId }) => ownerId),
      transfer_id: transfers.map(({ response }) => response.transferId),
      hold_id: holds.map(({ response }) => response.holdId),
      quote_id: quotes.map(({ quoteId }) => quoteId),
      currency: CURRENCIES,
      sell_currency: CURRENCIES,
      buy_currency: ["ISK", "JMD"],
      base: ["EUR", "ISK"],
      quote: ["JMD"],
      amount_minor_units: ["1", "20", "300"],
    },
  };
});

test("each rule of the document kept and broken: every answer is one that the document has", async () => {
  assert.equal(await fuzz({ ...operations, phase: "coverage" }, fuzzSeed()), "");
});

test("well-formed requests by chance: every answer is one that the document has", async (context) => {
  const seed = fuzzSeed();
  context.diagnostic(`seed ${seed}: make fuzz SEED=${seed} repeats it`);
  assert.equal(await fuzz({ ...operations, phase: "fuzzing" }, seed), "");
});
