import assert from "node:assert/strict";
import { test } from "node:test";
import { bucketOfUuid, idToUuid } from "#lib/ids.ts";
import { Hold_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { capture, hold, readHold } from "#tests/holds.ts";
import { newId, openAccount, openFunded } from "#tests/stack.ts";

test("a hold is read as it is now, on every shard", async () => {
  for (const shard of [1, 2, 3]) {
    const [payer, payee] = [await openFunded(100n, {}, shard), await openAccount({}, shard)];
    const { response } = await hold(payer.accountId, payee.accountId, 60n);
    assert.deepEqual(await readHold(response.holdId), response);
    await capture(response.holdId, { amountMinorUnits: 25n });
    assert.deepEqual(await readHold(response.holdId), {
      ...response,
      capturedMinorUnits: 25n,
      remainingMinorUnits: 35n,
      version: 2n,
    });
    await capture(response.holdId, { amountMinorUnits: 5n, final: true });
    const { state, capturedMinorUnits, remainingMinorUnits, version } = await readHold(response.holdId);
    assert.deepEqual([state, capturedMinorUnits, remainingMinorUnits, version], [Hold_State.CAPTURED, 30n, 0n, 3n]);
  }
});

test("an unknown hold is not found, an id that is none is malformed", async () => {
  const account = await openAccount();
  const unknown = newId("hold", bucketOfUuid(idToUuid(account.accountId)));
  await assert.rejects(readHold(unknown), { code: 5, reason: "HOLD_NOT_FOUND", metadata: { hold_id: unknown } });
  for (const none of ["", "hold_1", account.accountId]) {
    await assert.rejects(readHold(none), { code: 3, reason: "MALFORMED_REQUEST", fields: ["hold_id"] });
  }
});
