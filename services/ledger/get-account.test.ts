import assert from "node:assert/strict";
import { test } from "node:test";
import { newId, openFunded, readAccount } from "#tests/stack.ts";

test("an account shows what is posted, held and available", async () => {
  const account = await openFunded(1_234n);
  const now = await readAccount(account.accountId);
  assert.deepEqual(
    [now.postedMinorUnits, now.heldMinorUnits, now.availableMinorUnits, now.version],
    [1_234n, 0n, 1_234n, 2n],
  );
});

test("an unknown id is not found, a malformed one is refused with its field", async () => {
  const unknown = newId("acct", 1);
  await assert.rejects(readAccount(unknown), {
    code: 5,
    reason: "ACCOUNT_NOT_FOUND",
    metadata: { account_id: unknown },
  });
  for (const id of ["", "acct_1", newId("xfer", 1), `${unknown}'`]) {
    await assert.rejects(readAccount(id), { code: 3, fields: ["account_id"] });
  }
});
