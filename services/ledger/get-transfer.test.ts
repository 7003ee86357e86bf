import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { ledger, newId, openAccount, openFunded, transfer } from "#tests/stack.ts";

const read = (transferId: string) => call(ledger, ledger.getTransfer, { transferId }).then(({ response }) => response);

test("a transfer reads as it was answered, whatever happened to the accounts since", async () => {
  const [payer, payee] = [await openFunded(1_000n), await openAccount()];
  const { response } = await transfer(payer.accountId, payee.accountId, 10n, {
    memo: 'a "quoted" \\ memo, {braces} 🪙',
    metadata: { order: "12" },
    type: "order",
  });
  await transfer(payer.accountId, payee.accountId, 10n);
  assert.deepEqual(await read(response.transferId), response);
});

test("an unknown id is not found, a malformed one is refused with its field", async () => {
  const unknown = newId("xfer", 1);
  await assert.rejects(read(unknown), { code: 5, reason: "TRANSFER_NOT_FOUND", metadata: { transfer_id: unknown } });
  await assert.rejects(read("xfer_1"), { code: 3, fields: ["transfer_id"] });
  await assert.rejects(read(newId("acct", 1)), { code: 3, fields: ["transfer_id"] });
});
