import assert from "node:assert/strict";
import { test } from "node:test";
import { CallError } from "#lib/grpc-client.ts";
import { Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { convert, quoteOf, setRate } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  kill9,
  newKey,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  shardNumbers,
} from "#tests/stack.ts";

/** Conversions whose payer, payee and quote are anywhere, while the ledger is killed again and again. */
const CALLERS = 12;
const KILLS = 3;
const CONVERSIONS_BETWEEN_KILLS = 40;
const RETRY_PAUSE_MS = 50;
const FUNDS = 10_000_000n;

/** Repeats a call under its key as long as nobody can say what became of it. */
async function conclusive<Answer>(
  attempt: () => Promise<Answer>,
  isFinal: (answer: Answer) => boolean = () => true,
): Promise<Answer> {
  for (;;) {
    try {
      const answer = await attempt();
      if (isFinal(answer)) return answer;
    } catch (error) {
      assert.ok(error instanceof CallError, String(error));
      // Unavailable, a deadline, or a connection that broke; anything else is an answer.
      if (![14, 4, 13, 1].includes(error.code) || error.reason === "INTERNAL") throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
  }
}

test("killed under load, the ledger has made each conversion exactly once and each quote is used once or open", async () => {
  await setRate("NZD", "SGD", "0.7712", 30);
  const on = (index: number) => shardNumbers[index % shardNumbers.length];
  const payers = await Promise.all(shardNumbers.map((shard) => openFunded(FUNDS, { currency: "NZD" }, shard)));
  const payees = await Promise.all(shardNumbers.map((shard) => openAccount({ currency: "SGD" }, shard)));
  let paid = 0n;
  let received = 0n;
  let made = 0;
  let stopped = false;
  const caller = async (start: number) => {
    for (let index = start; !stopped; index += 1) {
      const [payer, payee] = [payers[(on(index) ?? 1) - 1], payees[(on(index * 7 + start) ?? 1) - 1]];
      const quoteKey = newKey();
      const asked = () => quoteOf("NZD", "SGD", { sell: BigInt(1_000 + index) }, { idempotencyKey: quoteKey });
      const quote = await conclusive(asked);
      const idempotencyKey = newKey();
      try {
        const once = () => convert(quote.quoteId, payer?.accountId ?? "", payee?.accountId ?? "", { idempotencyKey });
        const { response } = await conclusive(once, ({ response: { state } }) => state === Transfer_State.POSTED);
        assert.equal(response.postings[0]?.amountMinorUnits, quote.sellMinorUnits);
        paid += quote.sellMinorUnits;
        received += quote.buyMinorUnits;
        made += 1;
      } catch (error) {
        // The ledger was away for longer than the quote stands.
        assert.ok(error instanceof CallError && error.reason === "QUOTE_EXPIRED", String(error));
      }
    }
  };
  const callers = Promise.all(Array.from({ length: CALLERS }, (_, index) => caller(index)));
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const before = made;
    await eventually(() => made >= before + CONVERSIONS_BETWEEN_KILLS, "conversions are made", 60_000);
    await kill9("ledger");
  }
  const before = made;
  await eventually(() => made >= before + CONVERSIONS_BETWEEN_KILLS, "conversions are made again", 60_000);
  stopped = true;
  await callers;

  await eventually(async () => {
    const open = await Promise.all(
      shardNumbers.map((shard) =>
        postgres(shard).query(
          `select quote_id from ledger.quotes where state = 'RESERVED'
            union all select transfer_id from ledger.remote_legs where state = 'PREPARED'
            union all select transfer_id from ledger.decisions where state = 'COMMITTED'`,
        ),
      ),
    );
    return open.every(({ rows }) => rows.length === 0);
  }, "nothing is left half way");
  const sum = async (accounts: readonly { accountId: string }[]) =>
    (await Promise.all(accounts.map(({ accountId }) => readAccount(accountId)))).reduce(
      (total, { postedMinorUnits }) => total + postedMinorUnits,
      0n,
    );
  assert.equal(FUNDS * BigInt(payers.length) - (await sum(payers)), paid);
  assert.equal(await sum(payees), received);
  await assertInvariants();
});
