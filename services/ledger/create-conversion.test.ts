import assert from "node:assert/strict";
import { before, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { decodePosition } from "#lib/position.ts";
import {
  type Account,
  type CreateConversionRequest,
  Quote_State,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { changeQuote, convert, quoteOf, readQuote, setRate } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  ledger,
  newId,
  newKey,
  openAccount,
  openFunded,
  posted,
  postgres,
  readAccount,
} from "#tests/stack.ts";

const SELL = 10_000n;
/** 100.00 EUR at 1.0842 less 50 bps. */
const BUY = 10_787n;

const payerOn = (shard = 1) => openFunded(SELL, { currency: "EUR" }, shard);
const payeeOn = (shard = 1) => openAccount({ currency: "USD" }, shard);
/** Lies with the account; `for` any account unless said otherwise. */
const quoteFor = ({ accountId }: Account, amount: Parameters<typeof quoteOf>[2] = { sell: SELL }) =>
  quoteOf("EUR", "USD", amount, { debitAccountId: accountId });
/** A quote for any account on a shard. */
async function quoteOn(shard: number) {
  const quote = await quoteFor(await openAccount({}, shard));
  await changeQuote(quote.quoteId, "debit_account_id = null");
  return quote;
}

before(async () => {
  await setRate("EUR", "USD", "1.0842", 50);
  await setRate("BHD", "JPY", "400");
});

test("a conversion posts four entries through the position of each currency, and uses its quote", async () => {
  const [payer, payee] = [await payerOn(), await payeeOn()];
  const quote = await quoteFor(payer);
  assert.equal(quote.buyMinorUnits, BUY);
  const { response, position } = await convert(quote.quoteId, payer.accountId, payee.accountId, {
    memo: "holiday",
    metadata: { trip: "7" },
  });
  assert.deepEqual(
    [response.state, response.type, response.memo, response.metadata, response.quoteId],
    [Transfer_State.POSTED, "conversion", "holiday", { trip: "7" }, quote.quoteId],
  );
  const [sold, bought] = response.postings;
  assert.deepEqual(
    response.postings.map(({ amountMinorUnits, currency }) => [amountMinorUnits, currency]),
    [
      [SELL, "EUR"],
      [BUY, "USD"],
    ],
  );
  assert.deepEqual([sold?.debitAccountId, bought?.creditAccountId], [payer.accountId, payee.accountId]);
  for (const [id, currency] of [
    [sold?.creditAccountId, "EUR"],
    [bought?.debitAccountId, "USD"],
  ] as const) {
    const { reference, ...house } = await readAccount(id ?? "");
    assert.deepEqual([reference, house.currency], ["system:fx_position", currency]);
  }
  const { rows } = await postgres(1).query<{ currency: string; sum: string; entries: string }>(
    `select currency, sum(amount_minor_units), count(*) as entries from ledger.entries where transfer_id = $1
      group by currency order by currency`,
    [parseId(response.transferId)?.uuid],
  );
  assert.deepEqual(rows, [
    { currency: "EUR", sum: "0", entries: "2" },
    { currency: "USD", sum: "0", entries: "2" },
  ]);
  assert.deepEqual([await posted(payer), await posted(payee)], [0n, BUY]);
  assert.equal(response.balances.length, 4);
  assert.equal(decodePosition(position ?? "")?.length, 1);

  const used = await readQuote(quote.quoteId);
  assert.deepEqual([used.state, used.transferId], [Quote_State.USED, response.transferId]);
  const read = await call(ledger, ledger.getTransfer, { transferId: response.transferId });
  assert.deepEqual(read.response, response);
});

test("what is left over when an amount is bought goes to an account of its own", async () => {
  const [payer, payee] = [await openFunded(100n, { currency: "JPY" }), await openAccount({ currency: "BHD" })];
  const quote = await quoteOf("JPY", "BHD", { buy: 11n }, { debitAccountId: payer.accountId });
  assert.deepEqual([quote.sellMinorUnits, quote.residueMinorUnits], [5n, 1n]);
  const { response } = await convert(quote.quoteId, payer.accountId, payee.accountId);
  assert.deepEqual(
    response.postings.map(({ amountMinorUnits, currency }) => [amountMinorUnits, currency]),
    [
      [5n, "JPY"],
      [11n, "BHD"],
      [1n, "BHD"],
    ],
  );
  const residue = response.postings[2];
  assert.equal(residue?.debitAccountId, response.postings[1]?.debitAccountId);
  assert.equal((await readAccount(residue?.creditAccountId ?? "")).reference, "system:fx_residue");
  assert.deepEqual([await posted(payer), await posted(payee)], [95n, 11n]);
});

test("payer, payee and quote may each be on another shard", async () => {
  for (const [payerShard, payeeShard, quoteShard] of [
    [1, 2, 1],
    [1, 2, 2],
    [1, 1, 2],
    [3, 2, 1],
  ] as const) {
    const what = `payer on ${payerShard}, payee on ${payeeShard}, quote on ${quoteShard}`;
    const [payer, payee, quote] = [await payerOn(payerShard), await payeeOn(payeeShard), await quoteOn(quoteShard)];
    const { response } = await convert(quote.quoteId, payer.accountId, payee.accountId);
    assert.deepEqual([response.state, response.pendingAccountIds], [Transfer_State.POSTED, []], what);
    assert.deepEqual([await posted(payer), await posted(payee)], [0n, BUY], what);
    const used = await readQuote(quote.quoteId);
    assert.deepEqual([used.state, used.transferId], [Quote_State.USED, response.transferId], what);
    await eventually(async () => {
      const { rows } = await postgres(payerShard).query("select state from ledger.decisions where transfer_id = $1", [
        parseId(response.transferId)?.uuid,
      ]);
      return rows[0]?.state === "CLOSED";
    }, `${what}: the decision is closed`);
  }
});

test("a conversion between shards leaves a residue, too", async () => {
  const [payer, payee] = [await openFunded(100n, { currency: "JPY" }), await openAccount({ currency: "BHD" }, 2)];
  const quote = await quoteOf("JPY", "BHD", { buy: 11n });
  const { response } = await convert(quote.quoteId, payer.accountId, payee.accountId);
  assert.equal(response.postings.length, 3);
  const residue = response.postings[2]?.creditAccountId ?? "";
  assert.equal(parseId(residue)?.bucket, parseId(response.postings[1]?.debitAccountId ?? "")?.bucket);
  assert.deepEqual([await posted(payer), await posted(payee)], [95n, 11n]);
});

for (const quoteShard of [1, 2]) {
  const where = quoteShard === 1 ? "on the payer's shard" : "on another shard";

  test(`a repeated call answers the same transfer, also after the quote's time, ${where}`, async () => {
    const [payer, payee, quote] = [await payerOn(), await payeeOn(), await quoteOn(quoteShard)];
    const idempotencyKey = newKey();
    const once = () => convert(quote.quoteId, payer.accountId, payee.accountId, { idempotencyKey });
    const first = await once();
    await changeQuote(quote.quoteId, "expire_time = clock_timestamp()");
    const again = await once();
    assert.deepEqual([first.replayed, again.replayed], [false, true]);
    assert.deepEqual(again.response, first.response);
    await assert.rejects(convert(quote.quoteId, payer.accountId, payee.accountId, { idempotencyKey, memo: "x" }), {
      code: 6,
      reason: "IDEMPOTENCY_KEY_REUSED",
    });
    assert.deepEqual([await posted(payer), await posted(payee)], [0n, BUY]);
  });

  test(`an expired quote is refused and changes nothing, ${where}`, async () => {
    const [payer, payee, quote] = [await payerOn(), await payeeOn(), await quoteOn(quoteShard)];
    await changeQuote(quote.quoteId, "expire_time = clock_timestamp()");
    const idempotencyKey = newKey();
    const late = () => convert(quote.quoteId, payer.accountId, payee.accountId, { idempotencyKey });
    await assert.rejects(late(), { code: 9, reason: "QUOTE_EXPIRED" });
    await changeQuote(quote.quoteId, "expire_time = clock_timestamp() + interval '1 hour'");
    await assert.rejects(late(), { code: 9, reason: "QUOTE_EXPIRED", replayed: true });
    assert.deepEqual([await posted(payer), await posted(payee)], [SELL, 0n]);
    // The repeated call had reserved it elsewhere before its key's answer was known; nobody waits for the release.
    await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.OPEN, "the quote is open");
  });

  test(`a used quote is refused: of 50 conversions at once exactly one is made, ${where}`, async () => {
    const payers = await Promise.all(Array.from({ length: 5 }, () => payerOn()));
    const [payee, quote] = [await payeeOn(), await quoteOn(quoteShard)];
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, (_, index) =>
        convert(quote.quoteId, payers[index % 5]?.accountId ?? "", payee.accountId),
      ),
    );
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
    for (const result of results) {
      if (result.status === "rejected") assert.match(result.reason.reason, /^QUOTE_(USED|BUSY)$/);
    }
    assert.equal(await posted(payee), BUY);
    const [payer] = payers as [Account];
    await assert.rejects(convert(quote.quoteId, payer.accountId, payee.accountId), { code: 9, reason: "QUOTE_USED" });
  });

  test(`a conversion that is refused leaves its quote open, ${where}`, async () => {
    const [poor, payer, payee] = [await openFunded(SELL - 1n), await payerOn(), await payeeOn()];
    const [quote, euros] = [await quoteOn(quoteShard), await openAccount()];
    const refused = (debit: Account, credit: Account, reason: string) =>
      assert.rejects(convert(quote.quoteId, debit.accountId, credit.accountId), { code: 9, reason });
    await refused(poor, payee, "INSUFFICIENT_FUNDS");
    await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.OPEN, "it is open again");
    await refused(payer, euros, "CURRENCY_MISMATCH");
    await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.OPEN, "it is open again");
    await refused(payee, payer, "CURRENCY_MISMATCH");
    await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.OPEN, "it is open again");
    await convert(quote.quoteId, payer.accountId, payee.accountId);
    assert.equal(await posted(payee), BUY);
  });
}

test("Postgres does not let a used quote be used again, whoever asks", async () => {
  const [payer, payee] = [await payerOn(), await payeeOn()];
  const quote = await quoteFor(payer);
  await convert(quote.quoteId, payer.accountId, payee.accountId);
  const uuid = parseId(quote.quoteId)?.uuid;
  const columns = ["{f}", `{${uuid}}`, ...Array.from({ length: 11 }, () => "{NULL}"), "{USED}", `{${uuid}}`];
  await assert.rejects(
    postgres(1).query("select ledger.write_quotes($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)", columns),
    /was used before/,
  );
});

test("a quote for one account is not for another, and another caller's is not there", async () => {
  const [payer, other, far, payee] = [await payerOn(), await payerOn(), await payerOn(2), await payeeOn()];
  const quote = await quoteFor(payer);
  for (const stranger of [other, far]) {
    await assert.rejects(convert(quote.quoteId, stranger.accountId, payee.accountId), {
      code: 9,
      reason: "QUOTE_FOR_ANOTHER_ACCOUNT",
    });
  }
  await changeQuote(quote.quoteId, "caller = 'somebody else'");
  for (const { accountId } of [payer, far]) {
    await assert.rejects(convert(quote.quoteId, accountId, payee.accountId), { code: 5, reason: "QUOTE_NOT_FOUND" });
  }
  const unknown = newId("quot", 1);
  await assert.rejects(convert(unknown, payer.accountId, payee.accountId), { code: 5, reason: "QUOTE_NOT_FOUND" });
});

test("an account that is not there is named by its field, here and on another shard", async () => {
  const [payer, payee] = [await payerOn(), await payeeOn()];
  const quote = await quoteOf("EUR", "USD", { sell: SELL });
  const missing = { code: 5, reason: "ACCOUNT_NOT_FOUND" };
  const near = newId("acct", parseId(payer.accountId)?.bucket ?? 0);
  const far = newId("acct", parseId((await payeeOn(2)).accountId)?.bucket ?? 0);
  for (const id of [near, far]) {
    const fields = (field: string) => ({ ...missing, fields: [field] });
    await assert.rejects(convert(quote.quoteId, id, payee.accountId), fields("debit_account_id"));
    await assert.rejects(convert(quote.quoteId, payer.accountId, id), fields("credit_account_id"));
  }
});

test("malformed requests name their fields", async () => {
  const [payer, payee, quote] = [newId("acct", 1), newId("acct", 2), newId("quot", 3)];
  const cases: [Partial<CreateConversionRequest>, string[]][] = [
    [{ quoteId: "" }, ["quote_id"]],
    [{ quoteId: payer }, ["quote_id"]],
    [{ debitAccountId: "system:cash" }, ["debit_account_id"]],
    [{ creditAccountId: quote }, ["credit_account_id"]],
    [{ creditAccountId: payer }, ["credit_account_id"]],
    [{ memo: "x".repeat(141) }, ["memo"]],
    [{ metadata: { "": "x" } }, ["metadata"]],
    [{ quoteId: "q", debitAccountId: "", creditAccountId: "" }, ["quote_id", "debit_account_id", "credit_account_id"]],
  ];
  for (const [change, fields] of cases) {
    await assert.rejects(convert(quote, payer, payee, change), { code: 3, fields }, JSON.stringify(fields));
  }
  await assert.rejects(convert(quote, payer, payee, { idempotencyKey: "" }), { reason: "IDEMPOTENCY_KEY_REQUIRED" });
});

test("after all of it every shard sums to zero, and every used quote has its transfer", async () => {
  await assertInvariants();
});
