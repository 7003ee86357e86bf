import assert from "node:assert/strict";
import { test } from "node:test";
import { CallError, call } from "#lib/grpc-client.ts";
import { type CreateTransferRequest, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  eventually,
  kill9,
  ledger,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  shardNumbers,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

/**
 * Crashes under load. Each client keeps its own history; afterwards every command is repeated under its key: what had been
 * acknowledged must be replayed with the same id, what was told "nothing has happened" must be new, and in the end each
 * command has had exactly one effect.
 */
const CALLERS = 16;
const UNAVAILABLE = 14;
const RETRY_PAUSE_MS = 20;

interface Load {
  /** Stops the callers, and checks everything they saw. */
  check(): Promise<void>;
  acknowledged(): number;
}

async function startLoad(shard: number): Promise<Load> {
  const [payer, payee] = [await openFunded(1_000_000n, {}, shard), await openAccount({}, shard)];
  const requests: CreateTransferRequest[] = [];
  const seen = new Map<string, string>();
  const nothingHappened = new Set<string>();
  let stopped = false;
  const caller = async () => {
    while (!stopped) {
      const request = transferRequest(payer.accountId, payee.accountId, 1n);
      requests.push(request);
      try {
        const { response } = await call(ledger, ledger.createTransfer, request, {}, 8_000);
        if (response.state === Transfer_State.POSTED) seen.set(request.idempotencyKey, response.transferId);
        else assert.equal(response.state, Transfer_State.PROCESSING);
      } catch (error) {
        // Down, or the answer was lost on the way. Anything else is a defect.
        assert.ok(error instanceof CallError && error.reason !== "INTERNAL", String(error));
        assert.ok([UNAVAILABLE, 4, 13, 1].includes(error.code), String(error));
        // With a reason, it is the ledger that says so; without one, the connection broke and nobody knows.
        if (error.reason !== "") nothingHappened.add(request.idempotencyKey);
        await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
      }
    }
  };
  const callers = Array.from({ length: CALLERS }, caller);
  return {
    acknowledged: () => seen.size,
    async check() {
      stopped = true;
      await Promise.all(callers);
      for (const request of requests) {
        const { response, replayed } = await call(ledger, ledger.createTransfer, request);
        const first = seen.get(request.idempotencyKey);
        assert.equal(response.state, Transfer_State.POSTED);
        if (nothingHappened.has(request.idempotencyKey)) assert.ok(!replayed, "something had happened");
        if (first !== undefined) assert.deepEqual([response.transferId, replayed], [first, true]);
      }
      assert.equal((await readAccount(payee.accountId)).postedMinorUnits, BigInt(requests.length));
      assert.ok(seen.size > 0, "nothing was acknowledged");
      await assertInvariants();
    },
  };
}

/** Resolves when the load has had `more` further acknowledgements. */
async function progress(load: Load, more: number): Promise<void> {
  const target = load.acknowledged() + more;
  await eventually(() => load.acknowledged() >= target, `${more} more transfers are acknowledged`, 60_000);
}

test("kill -9 of the ledger under load loses and doubles nothing", async () => {
  const load = await startLoad(1);
  await progress(load, 200);
  await kill9("ledger");
  await progress(load, 200);
  await load.check();
});

test("kill -9 of a shard's Postgres loses and doubles nothing, and the other shards go on", async () => {
  const load = await startLoad(1);
  const others = await Promise.all(shardNumbers.filter((shard) => shard !== 1).map(startLoad));
  await progress(load, 200);
  const back = kill9("postgres-1");
  await Promise.all(others.map((other) => progress(other, 200)));
  await back;
  await progress(load, 200);
  await Promise.all([load, ...others].map((each) => each.check()));
});

test("connections that break at any moment, commits included, lose and double nothing", async () => {
  const load = await startLoad(2);
  for (let round = 0; round < 30; round += 1) {
    await progress(load, 20);
    await postgres(2).query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ledger'");
  }
  await progress(load, 100);
  await load.check();
});

test("a changed bucket map stops writing until the process knows it", async () => {
  const [payer, payee] = [await openFunded(100n, {}, 2), await openAccount({}, 2)];
  await postgres(2).query("update ledger.shard_head set map_version = map_version + 1");
  try {
    await assert.rejects(transfer(payer.accountId, payee.accountId, 1n), { code: 14, reason: "SHARD_MAP_CHANGED" });
  } finally {
    await postgres(2).query("update ledger.shard_head set map_version = map_version - 1");
  }
  assert.equal((await transfer(payer.accountId, payee.accountId, 1n)).response.state, Transfer_State.POSTED);
});
