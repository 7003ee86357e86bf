// Runs alone: it stops a ledger that may hold locks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import type { LedgerServiceClient } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { hold } from "#tests/holds.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import {
  eventually,
  ledger,
  newKey,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  shardNumbers,
  transferRequest,
} from "#tests/stack.ts";

/** A second ledger process beside the stack's own, on the same shards. */
const GRPC_PORT = 17_201;
let other: LedgerProcess;
let second: LedgerServiceClient;

before(async () => {
  other = await startLedger(GRPC_PORT);
  second = other.client;
});

after(() => other.signal("SIGKILL"));

test("a further process serves every shard, in the order of the stack's own", async () => {
  for (const shard of shardNumbers) {
    const account = await openAccount({}, shard);
    await call(second, second.createTransfer, transferRequest("system:cash", account.accountId, 7n));
    const { rows } = await postgres(shard).query(
      "select posted_minor_units::int as posted from ledger.accounts where owner_id = $1",
      [account.ownerId],
    );
    assert.deepEqual(rows, [{ posted: 7 }], `shard ${shard}`);
  }
});

test("identical calls over two processes make one transfer", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 1n);
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, index) => call(index % 2 === 0 ? ledger : second, ledger.createTransfer, request)),
  );
  assert.equal(new Set(answers.map(({ response }) => response.transferId)).size, 1);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 1n);
});

test("two processes on the same accounts neither deadlock nor overdraw", async () => {
  const accounts = await Promise.all(Array.from({ length: 4 }, () => openFunded(1_000n)));
  const pick = (index: number) => accounts[index % accounts.length]?.accountId as string;
  const calls = Array.from({ length: 600 }, (_, index) => {
    const request = transferRequest(pick(index), pick(index + 1 + (index % 3)), 7n + BigInt(index % 11));
    return call(index % 2 === 0 ? ledger : second, ledger.createTransfer, request);
  });
  const results = await Promise.allSettled(calls);
  for (const result of results) {
    if (result.status === "rejected") assert.equal(result.reason.reason, "INSUFFICIENT_FUNDS");
  }
  const balances = await Promise.all(accounts.map(({ accountId }) => readAccount(accountId)));
  assert.equal(
    balances.reduce((sum, { postedMinorUnits }) => sum + postedMinorUnits, 0n),
    4_000n,
  );
  for (const { postedMinorUnits } of balances) assert.ok(postedMinorUnits >= 0n);
  await assertInvariants();
});

test("two processes expire holds at once, and each hold once", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const expireTime = new Date(Date.now() + 3_000);
  const made = await Promise.all(
    Array.from({ length: 300 }, () => hold(payer.accountId, payee.accountId, 3n, { expireTime })),
  );
  assert.equal((await readAccount(payer.accountId)).heldMinorUnits, 900n);
  await eventually(async () => (await readAccount(payer.accountId)).heldMinorUnits === 0n, "every hold is expired");
  const { rows } = await postgres(1).query(
    "select state, version::int, count(*)::int from ledger.holds where hold_id = any ($1) group by 1, 2",
    [made.map(({ response }) => parseId(response.holdId)?.uuid)],
  );
  assert.deepEqual(rows, [{ state: "EXPIRED", version: 2, count: 300 }]);
  await assertInvariants();
});

test("a system account that two processes open at once is one account", async () => {
  const [one, two] = [await openAccount(), await openAccount()];
  const source = `system:t${newKey().slice(5)}`;
  const [a, b] = await Promise.all([
    call(ledger, ledger.createTransfer, transferRequest(source, one.accountId, 1n)),
    call(second, second.createTransfer, transferRequest(source, two.accountId, 1n)),
  ]);
  assert.equal(a.response.postings[0]?.debitAccountId, b.response.postings[0]?.debitAccountId);
});

test("a process that is stopped in the middle of its work does not hold up the other for long", async () => {
  const [payer, payee] = [await openFunded(10_000n), await openAccount()];
  let going = true;
  const load = Promise.allSettled(
    Array.from({ length: 8 }, async () => {
      while (going) {
        await call(
          second,
          second.createTransfer,
          transferRequest(payer.accountId, payee.accountId, 1n),
          {},
          2_000,
        ).catch(() => {});
      }
    }),
  );
  await eventually(async () => (await readAccount(payee.accountId)).postedMinorUnits > 50n, "the second ledger works");
  other.signal("SIGSTOP");
  try {
    // Postgres ends an idle transaction after 5 s; meanwhile a command answers within its own time, if only with PROCESSING.
    const request = transferRequest(payer.accountId, payee.accountId, 1n);
    await eventually(
      async () => {
        const { response } = await call(ledger, ledger.createTransfer, request);
        return response.balances.length > 0;
      },
      "the first ledger posts to the same accounts",
      20_000,
    );
  } finally {
    other.signal("SIGCONT");
    going = false;
  }
  await load;
  await assertInvariants();
});
