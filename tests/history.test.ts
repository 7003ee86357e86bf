import assert from "node:assert/strict";
import { test } from "node:test";
import { CallError, call } from "#lib/grpc-client.ts";
import { encodePosition } from "#lib/position.ts";
import { type Account, ReverseTransferRequest, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type HistoryEntry, ListEntriesRequest, ListTransfersRequest } from "#proto/ledgermesh/reporting/v1/history.ts";
import { headOf } from "#tests/projection.ts";
import { rest } from "#tests/rest.ts";
import {
  history,
  ledger,
  newId,
  newKey,
  newOwner,
  openAccount,
  openFunded,
  restUrl,
  shardNumbers,
  transfer,
} from "#tests/stack.ts";

const INVALID_ARGUMENT = 3;
const UNAVAILABLE = 14;
const BEYOND_DOUBLE = 9_007_199_254_740_993n;

/** As a client does: when the projection is behind, which a busy machine may be, it asks again. */
async function untilReached<Response>(query: () => Promise<Response>): Promise<Response> {
  for (;;) {
    try {
      return await query();
    } catch (error) {
      if (!(error instanceof CallError && error.reason === "PROJECTION_BEHIND")) throw error;
    }
  }
}

async function listEntries(request: Partial<ListEntriesRequest>, headers: Record<string, string> = {}) {
  const query = ListEntriesRequest.fromPartial(request);
  return untilReached(async () => (await call(history, history.listEntries, query, headers)).response);
}

async function listTransfers(request: Partial<ListTransfersRequest>, headers: Record<string, string> = {}) {
  const query = ListTransfersRequest.fromPartial(request);
  return untilReached(async () => (await call(history, history.listTransfers, query, headers)).response);
}

/** Pays 1, 2, 3 … from one account to the other and answers the last position, as a header. */
async function pay(from: Account, to: Account, times: number, type = "transfer"): Promise<{ "x-read-after": string }> {
  let position: string | undefined;
  for (let amount = 1; amount <= times; amount += 1) {
    ({ position } = await transfer(from.accountId, to.accountId, BigInt(amount), { type }));
  }
  assert.ok(position !== undefined);
  return { "x-read-after": position };
}

const sequences = (entries: readonly HistoryEntry[]) => entries.map(({ sequence }) => Number(sequence));
/** n, n-1 … 1 */
const downFrom = (first: number, count = first) => Array.from({ length: count }, (_, index) => first - index);

test("a query that carries the position of a transfer sees it", async () => {
  for (const shard of shardNumbers) {
    const [payer, payee] = [await openFunded(500n, {}, shard), await openAccount({}, shard)];
    for (let round = 1; round <= 5; round += 1) {
      const { response, position } = await transfer(payer.accountId, payee.accountId, 10n, { memo: `lunch ${round}` });
      const headers = { "x-read-after": position as string };
      const { entries } = await listEntries({ accountId: payee.accountId }, headers);
      assert.deepEqual(sequences(entries), downFrom(round));
      const [entry] = entries;
      assert.deepEqual(entry, {
        accountId: payee.accountId,
        sequence: BigInt(round),
        transferId: response.transferId,
        amountMinorUnits: 10n,
        balanceAfterMinorUnits: BigInt(round) * 10n,
        currency: "EUR",
        type: "transfer",
        memo: `lunch ${round}`,
        counterpartyAccountId: payer.accountId,
        postTime: response.postTime,
        effectiveTime: response.effectiveTime,
      });
      const [latest] = (await listTransfers({ accountId: payee.accountId, pageSize: 1 }, headers)).transfers;
      const { transferId, state, type, memo, postings, postTime, effectiveTime } = response;
      assert.deepEqual(latest, { transferId, state, type, memo, postings, postTime, effectiveTime });
    }
  }
});

test("a transfer that was taken back is REVERSED for whoever carries the reversal's position, and keeps its place", async () => {
  for (const [from, to] of [
    [1, 1],
    [1, 2],
    [2, 1],
  ]) {
    const [payer, payee] = [await openFunded(500n, {}, from), await openAccount({}, to)];
    const { response: original } = await transfer(payer.accountId, payee.accountId, 10n);
    const { response: next } = await transfer(payer.accountId, payee.accountId, 20n);
    const { response, position } = await call(
      ledger,
      ledger.reverseTransfer,
      ReverseTransferRequest.fromPartial({ transferId: original.transferId, idempotencyKey: newKey() }),
    );
    const [result] = response.reversals;
    assert.equal(result?.outcome?.$case, "transfer");
    const headers = { "x-read-after": position as string };
    const { transfers } = await listTransfers({ accountId: payee.accountId }, headers);
    assert.equal(transfers.at(-1)?.transferId, original.transferId);
    const stateOf = new Map(transfers.map(({ transferId, state }) => [transferId, state]));
    assert.deepEqual(
      stateOf,
      new Map([
        [result.outcome.value.transferId, Transfer_State.POSTED],
        [next.transferId, Transfer_State.POSTED],
        [original.transferId, Transfer_State.REVERSED],
      ]),
    );
  }
});

test("a position that is not reached within 2 s is refused, with how far it is", async () => {
  const head = await headOf(1);
  const wanted = head + 1_000_000n;
  const startedAt = performance.now();
  const refused = call(history, history.listEntries, ListEntriesRequest.fromPartial({}), {
    "x-read-after": encodePosition([{ shard: 1, number: wanted }]),
  });
  await assert.rejects(refused, (error: CallError) => {
    assert.deepEqual([error.code, error.reason], [UNAVAILABLE, "PROJECTION_BEHIND"]);
    assert.equal(error.metadata.shard, "1");
    assert.equal(error.metadata.wanted, wanted.toString());
    assert.ok(BigInt(error.metadata.reached ?? "") <= wanted);
    return true;
  });
  const elapsedMs = performance.now() - startedAt;
  assert.ok(elapsedMs >= 1_900 && elapsedMs < 10_000, `it took ${elapsedMs} ms`);
  const noSuchShard = call(history, history.listTransfers, ListTransfersRequest.fromPartial({}), {
    "x-read-after": encodePosition([{ shard: 99, number: 1n }]),
  });
  await assert.rejects(noSuchShard, { code: UNAVAILABLE, reason: "PROJECTION_BEHIND" });
});

test("an entry comes newest first, and pages hold each exactly once", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const headers = await pay(payer, payee, 25);
  for (const pageSize of [1, 7, 25, 26]) {
    const seen: number[] = [];
    let pageToken = "";
    do {
      const page = await listEntries({ accountId: payee.accountId, pageSize, pageToken }, headers);
      assert.ok(page.entries.length <= pageSize);
      seen.push(...sequences(page.entries));
      assert.equal(page.hasMore, seen.length < 25);
      assert.equal(page.nextPageToken !== "", page.hasMore);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.deepEqual(seen, downFrom(25));
  }
});

test("what arrives later neither shifts a page nor slips into one", async () => {
  // Of one type that nobody else uses; the accounts are on two shards.
  const type = newId("xfer", 0).slice(0, 40);
  const [payer, payee] = [await openFunded(10_000n), await openAccount()];
  const [otherPayer, otherPayee] = [await openFunded(10_000n, {}, 2), await openAccount({}, 2)];
  await pay(payer, payee, 10, type);
  const first = await pay(otherPayer, otherPayee, 10, type);
  await listEntries({}, await pay(payer, payee, 1, type));
  const expected = await listEntries({ type, pageSize: 500 }, first);
  assert.equal(expected.entries.length, 42);

  const seen: HistoryEntry[] = [];
  let pageToken = "";
  do {
    const page = await listEntries({ type, pageSize: 5, pageToken });
    seen.push(...page.entries);
    pageToken = page.nextPageToken;
    // Newer than everything, and effective before everything.
    await pay(payer, payee, 2, type);
    const [past, pastPayee] = [await openAccount({ floor: { $case: "unbounded", value: true } }), await openAccount()];
    const { position } = await transfer(past.accountId, pastPayee.accountId, 1n, {
      type,
      effectiveTime: new Date("1993-01-01T00:00:00Z"),
    });
    await listEntries({ accountId: past.accountId }, { "x-read-after": position as string });
  } while (pageToken !== "");
  assert.deepEqual(seen, expected.entries);
});

test("times are half open, and type and account must match", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const times = [1, 2, 3].map((day) => new Date(`2020-01-0${day}T12:00:00.000Z`));
  const source = await openAccount({ floor: { $case: "unbounded", value: true } });
  let position: string | undefined;
  for (const [index, effectiveTime] of times.entries()) {
    ({ position } = await transfer(source.accountId, payee.accountId, BigInt(index + 1), {
      effectiveTime,
      type: index === 1 ? "salary" : "transfer",
    }));
  }
  const headers = { "x-read-after": position as string };
  const accountId = payee.accountId;
  const list = async (request: Partial<ListEntriesRequest>) =>
    sequences((await listEntries({ accountId, ...request }, headers)).entries);
  assert.deepEqual(await list({}), [3, 2, 1]);
  assert.deepEqual(await list({ from: times[1] }), [3, 2]);
  assert.deepEqual(await list({ to: times[1] }), [1]);
  assert.deepEqual(await list({ from: times[1], to: times[2] }), [2]);
  assert.deepEqual(await list({ from: times[1], to: times[1] }), []);
  assert.deepEqual(await list({ type: "salary" }), [2]);
  assert.deepEqual(await list({ type: "pension" }), []);
  assert.deepEqual(await list({ accountId: newId("acct", 7) }), []);
  // A transfer is found from either side.
  for (const account of [source.accountId, accountId]) {
    const { transfers } = await listTransfers({ accountId: account, type: "salary" }, headers);
    assert.deepEqual(
      transfers.map(({ postings, state }) => [postings[0]?.amountMinorUnits, state]),
      [[2n, Transfer_State.POSTED]],
    );
  }
  assert.deepEqual((await listTransfers({ accountId: payer.accountId, type: "salary" })).transfers, []);
});

test("an amount beyond 2^53 comes back with every digit, over gRPC and over REST", async () => {
  const owner = newOwner();
  const payer = await openFunded(BEYOND_DOUBLE, { ownerId: owner });
  const payee = await openAccount({ ownerId: owner });
  const { position } = await transfer(payer.accountId, payee.accountId, BEYOND_DOUBLE);
  const headers = { "x-read-after": position as string };
  const { entries } = await listEntries({ accountId: payer.accountId }, headers);
  assert.deepEqual(
    entries.map(({ amountMinorUnits, balanceAfterMinorUnits }) => [amountMinorUnits, balanceAfterMinorUnits]),
    [
      [-BEYOND_DOUBLE, 0n],
      [BEYOND_DOUBLE, BEYOND_DOUBLE],
    ],
  );
  const answer = await rest(`${restUrl}/v1/history/entries?account_id=${payee.accountId}`, { headers });
  assert.equal(answer.status, 200);
  const body = JSON.parse(answer.text) as { entries: Record<string, unknown>[] };
  assert.equal(body.entries[0]?.amount_minor_units, "9007199254740993");
  assert.equal(body.entries[0]?.balance_after_minor_units, "9007199254740993");
});

test("a page token works for its own list only", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const headers = await pay(payer, payee, 3);
  const accountId = payee.accountId;
  const { nextPageToken } = await listEntries({ accountId, pageSize: 1 }, headers);
  assert.notEqual(nextPageToken, "");
  const forged = `${nextPageToken.slice(0, 20)}${nextPageToken[20] === "A" ? "B" : "A"}${nextPageToken.slice(21)}`;
  const refused = [
    listEntries({ accountId: payer.accountId, pageToken: nextPageToken }),
    listEntries({ accountId, type: "transfer", pageToken: nextPageToken }),
    listEntries({ accountId, from: new Date(0), pageToken: nextPageToken }),
    listEntries({ accountId, pageToken: forged }),
    listEntries({ accountId, pageToken: "x" }),
    listTransfers({ accountId, pageToken: nextPageToken }),
  ];
  for (const attempt of refused) {
    await assert.rejects(attempt, (error: CallError) => {
      assert.deepEqual(
        [error.code, error.reason, error.fields],
        [INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", ["page_token"]],
      );
      return true;
    });
  }
  // The size of a page is no filter.
  assert.deepEqual(
    sequences((await listEntries({ accountId, pageSize: 2, pageToken: nextPageToken })).entries),
    [2, 1],
  );
});

test("a malformed query is refused with the field", async () => {
  const refused: [Promise<unknown>, string][] = [
    [listEntries({ accountId: "acct_1" }), "account_id"],
    [listTransfers({ accountId: newId("user", 1) }), "account_id"],
    [listEntries({ pageSize: 501 }), "page_size"],
    [listEntries({ pageSize: -1 }), "page_size"],
    [listTransfers({ type: "x".repeat(41) }), "type"],
    [listTransfers({ from: new Date(2), to: new Date(1) }), "to"],
    [listEntries({}, { "x-read-after": "not a position" }), "x-read-after"],
    [listEntries({}, { "x-read-after": encodePosition([{ shard: 1, number: 1n }]).slice(1) }), "x-read-after"],
  ];
  for (const [attempt, field] of refused) {
    await assert.rejects(attempt, (error: CallError) => {
      assert.deepEqual([error.code, error.fields], [INVALID_ARGUMENT, [field]]);
      return true;
    });
  }
});
