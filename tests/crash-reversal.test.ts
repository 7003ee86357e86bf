import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { ReverseTransferRequest, type Transfer, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { startLedger } from "#tests/ledger-process.ts";
import { eventually, ledger, newKey, openAccount, openFunded, postgres, readAccount, transfer } from "#tests/stack.ts";

/** Crashes between a reversal's commit beside the credited account and the original's change of state on its own shard. */
const GRPC_PORT = 17_630;

const stateOf = async ({ transferId }: Transfer) =>
  (await call(ledger, ledger.getTransfer, { transferId })).response.state;

async function remainderState({ transferId }: Transfer, shard: number): Promise<string | undefined> {
  const { rows } = await postgres(shard).query<{ state: string }>(
    "select state from ledger.refunded_postings where transfer_id = $1",
    [parseId(transferId)?.uuid],
  );
  return rows[0]?.state;
}

async function reversedEvents({ transferId }: Transfer, shard: number): Promise<number> {
  const { rows } = await postgres(shard).query(
    "select from ledger.events where type = 'transfer_reversed' and aggregate_id = $1",
    [transferId],
  );
  return rows.length;
}

for (const [from, to] of [
  [1, 2],
  [2, 2],
] as const) {
  test(`a ledger killed before it told shard ${from} what was taken back on shard ${to}: recovery tells it, once`, async (t) => {
    const [payer, payee] = [await openFunded(100n, {}, from), await openAccount({}, to)];
    const { response: original } = await transfer(payer.accountId, payee.accountId, 100n);
    const further = await startLedger(GRPC_PORT + from);
    t.after(() => further.signal("SIGKILL"));
    const asked = ReverseTransferRequest.fromPartial({ transferId: original.transferId, idempotencyKey: newKey() });

    const blocker = await postgres(from).connect();
    try {
      await blocker.query("begin");
      await blocker.query("select from ledger.transfers where transfer_id = $1 for update", [
        parseId(original.transferId)?.uuid,
      ]);
      const answer = call(further.client, further.client.reverseTransfer, asked).catch((error: unknown) => error);
      await eventually(async () => (await remainderState(original, to)) === "EXHAUSTED", "the reversal is committed");
      further.signal("SIGKILL");
      assert.ok((await answer) instanceof Error, "the killed ledger has answered");
      assert.equal(await stateOf(original), Transfer_State.POSTED);
    } finally {
      await blocker.query("rollback");
      blocker.release();
    }

    await eventually(async () => (await remainderState(original, to)) === "NOTED", "the reversal is noted");
    assert.equal(await stateOf(original), Transfer_State.REVERSED);
    assert.equal(await reversedEvents(original, from), 1);
    const repeated = await call(ledger, ledger.reverseTransfer, asked);
    assert.deepEqual([repeated.replayed, repeated.response.reversals.length], [true, 1]);
    assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 100n);
    await assertInvariants();
  });
}

test("what was noted already may be noted again: nothing changes, and no second event is made", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const { response: original } = await transfer(payer.accountId, payee.accountId, 100n);
  const asked = ReverseTransferRequest.fromPartial({ transferId: original.transferId, idempotencyKey: newKey() });
  await call(ledger, ledger.reverseTransfer, asked);
  await eventually(async () => (await remainderState(original, 2)) === "NOTED", "the reversal is noted");
  // As a ledger leaves it that is killed after it told the other shard.
  await postgres(2).query(
    "update ledger.refunded_postings set state = 'EXHAUSTED', exhausted_at = now() - interval '1 min' where transfer_id = $1",
    [parseId(original.transferId)?.uuid],
  );
  await eventually(async () => (await remainderState(original, 2)) === "NOTED", "the reversal is noted again");
  assert.deepEqual([await stateOf(original), await reversedEvents(original, 1)], [Transfer_State.REVERSED, 1]);
  await assertInvariants();
});
