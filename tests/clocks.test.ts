import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId, timeMsOfUuid } from "#lib/ids.ts";
import { Account_Kind, CreateAccountRequest, CreateHoldRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import { type ScratchDatabase, scratchShards, withConnection } from "#tests/scratch-database.ts";
import { eventually, newKey, newOwner, transferRequest } from "#tests/stack.ts";

/**
 * Three shards whose Postgres clocks are right, five minutes ahead and five minutes behind; and two ledger processes on them, one
 * five minutes ahead and one behind.
 */
const MINUTES_5_MS = 300_000;
const GRPC_PORTS = [17_241, 17_242] as const;
const SHIFTS_MS = [0, MINUTES_5_MS, -MINUTES_5_MS];
let databases: ScratchDatabase[] = [];
let ahead: LedgerProcess;
let behind: LedgerProcess;

before(async () => {
  databases = await scratchShards(SHIFTS_MS.map((ms) => ms / 1000));
  const urls = databases.map(({ ledger }) => ledger);
  [ahead, behind] = await Promise.all([
    startLedger(GRPC_PORTS[0], urls, shiftedClock(MINUTES_5_MS)),
    startLedger(GRPC_PORTS[1], urls, shiftedClock(-MINUTES_5_MS)),
  ]);
});

after(async () => {
  for (const ledger of [ahead, behind]) ledger.signal("SIGKILL");
  await Promise.all(databases.map((database) => database.drop()));
});

/** The environment that shifts the clock of a process. */
function shiftedClock(ms: number): Record<string, string> {
  const source = `const now = Date.now; Date.now = () => now() + ${ms};`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(source)}` };
}

async function open({ client }: LedgerProcess, shard: number): Promise<string> {
  const request = { ownerId: newOwner(shard), currency: "EUR", kind: Account_Kind.WALLET, idempotencyKey: newKey() };
  return (await call(client, client.createAccount, CreateAccountRequest.fromPartial(request))).response.accountId;
}

const transferBy = ({ client }: LedgerProcess, ...request: Parameters<typeof transferRequest>) =>
  call(client, client.createTransfer, transferRequest(...request)).then(({ response }) => response);

test("the processes' clocks are in ids, and decide nothing: times are those of the account's shard, and in its order", async () => {
  for (const [index, shiftMs] of SHIFTS_MS.entries()) {
    const [one, two] = [await open(ahead, index + 1), await open(behind, index + 1)];
    assert.ok(idTimeMs(one) - idTimeMs(two) > MINUTES_5_MS);
    for (let turn = 0; turn < 10; turn += 1) {
      const { postTime } = await transferBy(turn % 2 === 0 ? ahead : behind, "system:cash", one, 1n);
      const differsMs = Number(postTime) - (Date.now() + shiftMs);
      assert.ok(Math.abs(differsMs) < MINUTES_5_MS / 5, `shard ${index + 1}: ${differsMs} ms`);
    }
    const { response } = await call(behind.client, behind.client.listAccountEntries, {
      accountId: one,
      pageSize: 50,
      pageToken: "",
    });
    assert.deepEqual(
      response.entries.map(({ sequence }) => sequence),
      [10n, 9n, 8n, 7n, 6n, 5n, 4n, 3n, 2n, 1n],
    );
    const times = response.entries.map(({ postTime }) => Number(postTime)).reverse();
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    );
  }
});

test("money moves between shards whose clocks are ten minutes apart, through either process, both ways", async () => {
  const accounts = await Promise.all([1, 2, 3].map((shard) => open(ahead, shard)));
  for (const account of accounts) await transferBy(behind, "system:cash", account, 100n);
  for (const [from, payer] of accounts.entries()) {
    for (const [to, payee] of accounts.entries()) {
      if (from === to) continue;
      for (const process of [ahead, behind]) {
        const made = await transferBy(process, payer, payee, 3n);
        assert.deepEqual(made.pendingAccountIds, []);
      }
    }
  }
  for (const [index, { superuser }] of databases.entries()) {
    const [account] = (
      await withConnection(superuser, (db) =>
        db.query(
          "select posted_minor_units::int as posted, prepared_credit_minor_units::int as prepared from ledger.accounts where account_id = $1",
          [parseId(accounts[index] as string)?.uuid],
        ),
      )
    ).rows;
    assert.deepEqual(account, { posted: 100, prepared: 0 });
  }
  for (const { superuser } of databases) {
    await eventually(async () => {
      const { rows } = await withConnection(superuser, (db) =>
        db.query("select 1 from ledger.decisions where state = 'COMMITTED'"),
      );
      return rows.length === 0;
    }, "every decision is closed");
  }
});

test("an effective time is in the future by the clock of the payer's shard alone", async () => {
  const now = Date.now();
  const soon = new Date(now + MINUTES_5_MS / 2);
  const [right, early] = [await open(ahead, 1), await open(behind, 2)];
  await assert.rejects(transferBy(ahead, "system:bank", right, 1n, { effectiveTime: soon }), {
    reason: "EFFECTIVE_TIME_IN_FUTURE",
  });
  assert.equal(
    (await transferBy(behind, "system:bank", early, 1n, { effectiveTime: soon })).effectiveTime?.getTime(),
    soon.getTime(),
  );
});

test("a hold expires by the clock of its shard, whichever process is asked", async () => {
  const soon = new Date(Date.now() + MINUTES_5_MS / 2);
  const hold = async (process: LedgerProcess, debitAccountId: string) => {
    const request = {
      debitAccountId,
      creditAccountId: "system:shop",
      amountMinorUnits: 1n,
      currency: "EUR",
      expireTime: soon,
    };
    const { client } = process;
    const full = CreateHoldRequest.fromPartial({ ...request, idempotencyKey: newKey() });
    return (await call(client, client.createHold, full)).response;
  };
  const [right, early] = [await open(ahead, 1), await open(behind, 2)];
  for (const account of [right, early]) await transferBy(ahead, "system:cash", account, 10n);
  for (const process of [ahead, behind]) {
    assert.equal((await hold(process, right)).expireTime?.getTime(), soon.getTime());
    await assert.rejects(hold(process, early), { code: 9, reason: "EXPIRE_TIME_IN_PAST" });
  }
});

function idTimeMs(id: string): number {
  return timeMsOfUuid(parseId(id)?.uuid as string);
}
