import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { stackEnvironment } from "#infra/local/endpoints.ts";
import { call, readDetails } from "#lib/grpc-client.ts";
import { type Account, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type LedgerProcess, startLedger } from "#tests/ledger-process.ts";
import {
  eventually,
  ledger,
  newKey,
  openAccount,
  openFunded,
  posted,
  readAccount,
  stackName,
  transfer,
  transferRequest,
} from "#tests/stack.ts";

/** Ledgers that cannot reach shard 3: one where nothing listens, one where somebody listens and never answers. */
const GRPC_PORTS = { refused: 17_251, silent: 17_252 };
const NOBODY = 1;
const SILENT_PORT = 17_259;
/** A payment command answers within so long (R-S3). */
const ANSWER_MS = 5_000;
const silent: Server = createServer((socket) => held.push(socket));
const held: Socket[] = [];
const without: { refused?: LedgerProcess; silent?: LedgerProcess } = {};

before(async () => {
  await new Promise<void>((resolve) => silent.listen(SILENT_PORT, "127.0.0.1", resolve));
  [without.refused, without.silent] = await Promise.all([
    startLedger(GRPC_PORTS.refused, shardsWithThirdAt(NOBODY)),
    startLedger(GRPC_PORTS.silent, shardsWithThirdAt(SILENT_PORT)),
  ]);
});

after(() => {
  for (const process of Object.values(without)) process?.signal("SIGKILL");
  for (const socket of held) socket.destroy();
  silent.close();
});

function shardsWithThirdAt(port: number): string[] {
  const [first, second, third] = stackEnvironment(stackName, "ledger").LEDGERMESH_SHARDS?.split(",") ?? [];
  const away = new URL(third as string);
  away.port = String(port);
  return [first as string, second as string, away.href];
}

for (const how of ["refused", "silent"] as const) {
  const client = () => (without[how] as LedgerProcess).client;
  const make = (request: CreateTransferRequest) => call(client(), client().createTransfer, request);

  test(`connections ${how}: the other shards work as ever, within and between them`, async () => {
    const [payer, near, second] = [await openFunded(100n), await openAccount(), await openAccount({}, 2)];
    await make(transferRequest(payer.accountId, near.accountId, 1n));
    const { response } = await make(transferRequest(payer.accountId, second.accountId, 2n));
    assert.deepEqual(response.pendingAccountIds, []);
    assert.equal((await readAccount(second.accountId)).postedMinorUnits, 2n);
  });

  test(`connections ${how}: to and from the shard that is away nothing moves, and the caller is told in time`, async () => {
    const [payer, away] = [await openFunded(100n), await openFunded(100n, {}, 3)];
    const there = transferRequest(payer.accountId, away.accountId, 1n);
    const back = transferRequest(away.accountId, payer.accountId, 1n);
    for (const request of [there, back]) {
      const startedAtMs = performance.now();
      await assert.rejects(make(request), ({ code, reason }) => {
        assert.equal(code, 14);
        assert.match(reason, /^SHARD_(UNAVAILABLE|TOO_SLOW)$/);
        return true;
      });
      assert.ok(performance.now() - startedAtMs < ANSWER_MS);
    }
    assert.equal((await readAccount(payer.accountId)).postedMinorUnits, 100n);
    await assert.rejects(call(client(), client().getAccount, { accountId: away.accountId }), { code: 14 });

    // The keys are free: where the shard is reached the same calls are made.
    for (const request of [there, back]) {
      assert.equal((await call(ledger, ledger.createTransfer, request)).replayed, false);
    }
    assert.deepEqual(await Promise.all([payer, away].map(posted)), [100n, 100n]);
    // And a call that has its answer gets it again, also from a process that cannot ask the other shard.
    const replay = await make(there);
    assert.deepEqual([replay.replayed, replay.response.pendingAccountIds], [true, [away.accountId]]);
  });

  test(`connections ${how}: a transfer to three shards moves nothing when one is away, and keeps no room on the others`, async () => {
    const [payer, second, third] = [await openFunded(100n), await openAccount({}, 2), await openAccount({}, 3)];
    const posting = (credit: Account) => ({
      debitAccountId: payer.accountId,
      creditAccountId: credit.accountId,
      amountMinorUnits: 5n,
      currency: "EUR",
    });
    const request = { postings: [posting(second), posting(third)], idempotencyKey: newKey() };
    await assert.rejects(make(CreateTransferRequest.fromPartial(request)), { code: 14 });
    assert.deepEqual(await Promise.all([payer, second, third].map(posted)), [100n, 0n, 0n]);
    await eventually(async () => {
      const closed = await call(ledger, ledger.closeAccount, {
        accountId: second.accountId,
        reason: "",
        idempotencyKey: newKey(),
      });
      return closed.response.version > 1n;
    }, "nothing is prepared on the second shard any more");
  });

  test(`connections ${how}: in a batch only what needs the shard is refused`, async () => {
    const [payer, near, away] = [await openFunded(100n), await openAccount({}, 2), await openAccount({}, 3)];
    const transfers = [near, away, near].map(({ accountId }) => transferRequest(payer.accountId, accountId, 1n));
    const { response } = await call(client(), client().batchCreateTransfers, { transfers });
    const codes = response.results.map(({ outcome }) =>
      outcome?.$case === "error"
        ? (readDetails(outcome.value).info?.reason.replace("TOO_SLOW", "UNAVAILABLE") ?? "")
        : "made",
    );
    assert.deepEqual([codes[0], codes[1]], ["made", "SHARD_UNAVAILABLE"]);
    assert.equal((await readAccount(away.accountId)).postedMinorUnits, 0n);
  });
}

test("a transfer that was made is read without the shard that is away; its account counts as on the way", async () => {
  const [payer, away] = [await openFunded(100n), await openAccount({}, 3)];
  const { response } = await transfer(payer.accountId, away.accountId, 1n);
  const { client } = without.refused as LedgerProcess;
  const read = await call(client, client.getTransfer, { transferId: response.transferId });
  assert.deepEqual(read.response.pendingAccountIds, [away.accountId]);
  assert.deepEqual(
    read.response.balances.map(({ accountId }) => accountId),
    [payer.accountId],
  );
});
