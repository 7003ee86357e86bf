import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { shardUrls } from "#infra/local/endpoints.ts";
import { decimal, formatDecimal } from "#lib/decimal.ts";
import { type CallError, call } from "#lib/grpc-client.ts";
import { idToUuid, parseId } from "#lib/ids.ts";
import { type Quote, Quote_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { changeQuote, convert, forgetRates, quoteOf, readQuote, setRate } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import {
  eventually,
  ledger,
  newId,
  newKey,
  newOwner,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  shardNumbers,
  stackName,
  transfer,
} from "#tests/stack.ts";

/** Exchange over several shards and processes. */

const GRPC_PORT = 17_431;
const HALF_GRPC_PORT = 17_432;
const NOBODY_LISTENS = "postgres://ledger@127.0.0.1:1/ledger";
/** Of the random walk; each is two conversions. */
const ROUNDS = 24;
let other: LedgerProcess;

before(async () => {
  other = await startLedger(GRPC_PORT);
});

after(() => other.signal("SIGKILL"));

/** A quote of 10 GBP in USD for any account, on a shard. */
async function quoteOn(shard: number): Promise<Quote> {
  const { accountId } = await openAccount({ currency: "GBP" }, shard);
  const quote = await quoteOf("GBP", "USD", { sell: 1_000n }, { debitAccountId: accountId });
  await changeQuote(quote.quoteId, "debit_account_id = null");
  return quote;
}

/** Mulberry32 (public domain, Tommy Ettinger): numbers from 0 to 1 that a seed repeats. */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("rates that a shard missed are completed by the same call; meanwhile the others quote", async () => {
  await forgetRates("TRY", "GEL");
  const urls = shardUrls(stackName, "ledger").map((url, index) => (index === 2 ? NOBODY_LISTENS : url));
  const half = await startLedger(HALF_GRPC_PORT, urls);
  const idempotencyKey = newKey();
  const request = {
    rates: [{ base: "TRY", quote: "GEL", rate: "0.08", spreadBps: 0, asOf: new Date() }],
    idempotencyKey,
  };
  await assert.rejects(call(half.client, half.client.setRates, request), {
    code: 14,
    reason: "RATES_NOT_EVERYWHERE",
    metadata: { shards: "3" },
  });
  half.signal("SIGKILL");
  const quoteAt = async (shard: number) => {
    const { accountId } = await openAccount({ ownerId: newOwner(shard), currency: "TRY" }, shard);
    return (await quoteOf("TRY", "GEL", { sell: 1_000n }, { debitAccountId: accountId })).buyMinorUnits;
  };
  assert.deepEqual(await Promise.all([quoteAt(1), quoteAt(2)]), [80n, 80n]);
  await assert.rejects(quoteAt(3), { code: 9, reason: "RATE_UNKNOWN" });
  const { replayed } = await call(ledger, ledger.setRates, request);
  assert.equal(replayed, false);
  assert.deepEqual(await Promise.all(shardNumbers.map(quoteAt)), [80n, 80n, 80n]);
});

test("of many conversions over two processes exactly one is made with each quote, wherever it is", async () => {
  await setRate("GBP", "USD", "1.3105", 20);
  const payers = await Promise.all(Array.from({ length: 6 }, () => openFunded(1_000_000n, { currency: "GBP" })));
  for (const shard of shardNumbers) {
    const payee = await openAccount({ currency: "USD" });
    const quotes = await Promise.all(Array.from({ length: 20 }, () => quoteOn(shard)));
    // One after the other, so that the two processes meet at each of them.
    for (const { quoteId } of quotes) {
      const results = await Promise.allSettled(
        payers.map(({ accountId }, index) =>
          convert(quoteId, accountId, payee.accountId, {}, index % 2 === 0 ? ledger : other.client),
        ),
      );
      const made = results.filter(({ status }) => status === "fulfilled");
      assert.equal(made.length, 1, `${quoteId} on shard ${shard}`);
      for (const result of results) {
        if (result.status === "rejected") assert.match(result.reason.reason, /^QUOTE_(USED|BUSY)$|^SHARD_CONTENDED$/);
      }
    }
    assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 20n * (quotes[0]?.buyMinorUnits ?? 0n));
  }
});

test("a reserved quote that nobody comes back for is opened again, and its transfer can not happen any more", async () => {
  await setRate("GBP", "USD", "1.3105", 20);
  const [payer, payee, quote] = [
    await openFunded(1_000n, { currency: "GBP" }),
    await openAccount({ currency: "USD" }),
    await quoteOn(2),
  ];
  const transferId = newId("xfer", parseId(payer.accountId)?.bucket ?? 0);
  await changeQuote(
    quote.quoteId,
    `state = 'RESERVED', transfer_id = '${idToUuid(transferId)}', reserved_at = clock_timestamp() - interval '3 s'`,
  );
  await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.OPEN, "it is open again");
  const { rows } = await postgres(1).query("select state from ledger.decisions where transfer_id = $1", [
    idToUuid(transferId),
  ]);
  assert.deepEqual(rows, [{ state: "ABORTED" }]);
  await convert(quote.quoteId, payer.accountId, payee.accountId);
});

test("a quote whose conversion is committed is used in the end, also when nobody came to say so", async () => {
  await setRate("GBP", "USD", "1.3105", 20);
  for (const payeeShard of [1, 2]) {
    const payer = await openFunded(1_000n, { currency: "GBP" });
    const [payee, quote] = [await openAccount({ currency: "USD" }, payeeShard), await quoteOn(3)];
    const { response } = await convert(quote.quoteId, payer.accountId, payee.accountId);
    const uuid = idToUuid(response.transferId);
    const decision = async () => {
      const { rows } = await postgres(1).query("select state from ledger.decisions where transfer_id = $1", [uuid]);
      return rows[0]?.state;
    };
    await eventually(async () => (await decision()) === "CLOSED", "the decision is closed");
    // As a crash right after the commit would have left it.
    await postgres(1).query(
      "update ledger.decisions set state = 'COMMITTED', decided_at = clock_timestamp() - interval '1 h' where transfer_id = $1",
      [uuid],
    );
    await changeQuote(quote.quoteId, "state = 'RESERVED', reserved_at = clock_timestamp() - interval '3 s'");
    await eventually(async () => (await readQuote(quote.quoteId)).state === Quote_State.USED, "it is used");
    await eventually(async () => (await decision()) === "CLOSED", "the decision is closed again");
    assert.equal((await readQuote(quote.quoteId)).transferId, response.transferId);
  }
});

test("a decision is not closed before its quote is used", async () => {
  await setRate("GBP", "USD", "1.3105", 20);
  const payer = await openFunded(2_000n, { currency: "GBP" });
  const [payee, quote] = [await openAccount({ currency: "USD" }), await quoteOn(3)];
  const conversion = (await convert(quote.quoteId, payer.accountId, payee.accountId)).response;
  const far = await openAccount({ currency: "GBP" }, 3);
  const other = (await transfer(payer.accountId, far.accountId, 1n, { currency: "GBP" })).response;
  const [uuid, otherUuid] = [idToUuid(conversion.transferId), idToUuid(other.transferId)];
  const states = async () => {
    const { rows } = await postgres(1).query<{ state: string }>(
      "select state from ledger.decisions where transfer_id = any ($1) order by transfer_id",
      [[uuid, otherUuid]],
    );
    return rows.map(({ state }) => state).join();
  };
  await eventually(async () => (await states()) === "CLOSED,CLOSED", "both are closed");
  // Reserved by a clock that recovery does not reach.
  await changeQuote(quote.quoteId, "state = 'RESERVED', reserved_at = clock_timestamp() + interval '1 h'");
  await postgres(1).query(
    "update ledger.decisions set state = 'COMMITTED', decided_at = clock_timestamp() - interval '1 h' where transfer_id = any ($1)",
    [[uuid, otherUuid]],
  );
  await eventually(async () => (await states()) === "COMMITTED,CLOSED", "the one without a quote is closed again");
  await changeQuote(quote.quoteId, "reserved_at = clock_timestamp() - interval '3 s'");
  await eventually(async () => (await states()) === "CLOSED,CLOSED", "the other one follows");
  assert.equal((await readQuote(quote.quoteId)).state, Quote_State.USED);
});

test("a quote whose shard is away is not to be had, and nothing has happened; other quotes are", async () => {
  await setRate("GBP", "USD", "1.3105", 20);
  const [payer, payee] = [await openFunded(1_000n, { currency: "GBP" }), await openAccount({ currency: "USD" })];
  const [far, near] = [await quoteOn(3), await quoteOn(2)];
  const urls = shardUrls(stackName, "ledger").map((url, index) => (index === 2 ? NOBODY_LISTENS : url));
  const half = await startLedger(HALF_GRPC_PORT, urls);
  await assert.rejects(convert(far.quoteId, payer.accountId, payee.accountId, {}, half.client), {
    code: 14,
    reason: "SHARD_UNAVAILABLE",
    metadata: { shard: "3" },
  });
  assert.equal((await readAccount(payer.accountId)).version, 2n);
  await convert(near.quoteId, payer.accountId, payee.accountId, {}, half.client);
  half.signal("SIGKILL");
  await convert(far.quoteId, (await openFunded(1_000n, { currency: "GBP" })).accountId, payee.accountId);
});

test("going around at one rate never gains, whatever the rate, the amounts and the shards", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = seededRandom(seed);
  const pick = <One>(from: readonly One[]) => from[Math.floor(random() * from.length)] as One;
  const currencies = ["JPY", "EUR", "KWD", "CLF"] as const;
  let converted = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const [base, quote] = pick(
      currencies.flatMap((a) => currencies.flatMap((b) => (a === b ? [] : [[a, b] as const]))),
    );
    const rate = formatDecimal(decimal(BigInt(1 + Math.floor(random() * 99_999)), Math.floor(random() * 7)));
    const what = `seed ${seed}, round ${round}: 1 ${base} = ${rate} ${quote}`;
    await setRate(base, quote, rate, pick([0, 0, 1, 50, 5_000]));
    const had = BigInt(1 + Math.floor(10 ** (random() * 9)));
    const [purse, abroad] = await Promise.all([
      openFunded(had, { currency: base }, pick(shardNumbers)),
      openAccount({ currency: quote }, pick(shardNumbers)),
    ]);
    try {
      const there = await quoteOf(base, quote, { sell: had });
      await convert(there.quoteId, purse.accountId, abroad.accountId);
      const back = await quoteOf(quote, base, { sell: there.buyMinorUnits });
      await convert(back.quoteId, abroad.accountId, purse.accountId);
      converted += 1;
    } catch (error) {
      assert.match((error as CallError).reason, /^CONVERTS_TO_ZERO$|^AMOUNT_OUT_OF_RANGE$/, what);
    }
    // What a bought amount costs is no less than what selling it brings.
    const bought = await quoteOf(quote, base, { buy: had }).catch(() => undefined);
    const sold = await quoteOf(base, quote, { sell: had }).catch(() => undefined);
    if (bought !== undefined && sold !== undefined) assert.ok(bought.sellMinorUnits >= sold.buyMinorUnits, what);
    assert.ok((await readAccount(purse.accountId)).postedMinorUnits <= had, what);
  }
  assert.ok(converted > ROUNDS / 4, `seed ${seed}: only ${converted} round trips`);
});

test("after all of it every shard sums to zero and every key has what it made", async () => {
  await assertInvariants();
});
