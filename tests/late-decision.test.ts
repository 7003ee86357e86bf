// Runs alone: it locks rows from outside, and the shard's queue waits.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "pg";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import {
  eventually,
  ledger,
  openAccount,
  openFunded,
  postgres,
  readAccount,
  stack,
  transferRequest,
} from "#tests/stack.ts";

/** A decision that comes after another ledger's recovery has decided against the transfer. */
const GRPC_PORT = 17_203;
let further: LedgerProcess;

before(async () => {
  further = await startLedger(GRPC_PORT);
});

after(() => further.signal("SIGKILL"));

test("recovery decides while the decision waits for a lock: nothing has happened, the caller is told so, and may repeat", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  const outside = new Client({ connectionString: stack.shards[0] as string });
  await outside.connect();
  try {
    // The ledger has looked for a decision, and found none, when it waits for the account.
    await outside.query("begin");
    await outside.query("select 1 from ledger.accounts where account_id = $1 for update", [
      parseId(payer.accountId)?.uuid,
    ]);
    const first = assert.rejects(call(ledger, ledger.createTransfer, request), {
      code: 14,
      reason: "TRANSFER_ABORTED",
    });
    const credited = parseId(payee.accountId)?.uuid;
    let transferUuid: string | undefined;
    await eventually(async () => {
      // Old enough for recovery.
      const { rows } = await postgres(2).query<{ transfer_id: string }>(
        `update ledger.remote_legs set prepared_at = now() - interval '1 minute'
          where credit_account_id = $1 returning transfer_id`,
        [credited],
      );
      transferUuid = rows[0]?.transfer_id;
      return transferUuid !== undefined;
    }, "the leg is prepared");
    await eventually(async () => {
      const { rows } = await postgres(1).query("select state from ledger.decisions where transfer_id = $1", [
        transferUuid,
      ]);
      return rows[0]?.state === "ABORTED";
    }, "recovery of the other ledger has decided");
    await outside.query("rollback");
    await first;
  } finally {
    await outside.end();
  }
  assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 100n);
  const again = await call(ledger, ledger.createTransfer, request);
  assert.deepEqual([again.response.state, again.replayed], [Transfer_State.POSTED, false]);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 10n);
  await assertInvariants();
});
