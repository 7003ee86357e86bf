import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "pg";
import { shardUrls } from "#infra/local/endpoints.ts";
import { idToUuid } from "#lib/ids.ts";
import { createLogger } from "#lib/log.ts";
import { readBucketMap } from "#lib/shards.ts";
import type { Account } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type CommandWriter, commandWriter } from "#services/ledger/command-writer.ts";
import { tryOptimistically } from "#services/ledger/optimistic-batch.ts";
import { openShard, type Shard } from "#services/ledger/shard.ts";
import { writeBatch } from "#services/ledger/write-batch.ts";
import { lockedAccount, transferCommand } from "#tests/evaluation.ts";
import { assertInvariants } from "#tests/invariants.ts";
import { openAccount, openFunded, posted, setStatus, stackName, transfer } from "#tests/stack.ts";

/** A writer of this process beside the stack's own ledger, on shard 1. */
const quiet = createLogger("test");
quiet.level = "silent";
let shard: Shard;

before(async () => {
  const [url = ""] = shardUrls(stackName, "ledger");
  const db = new Client({ connectionString: url });
  await db.connect();
  const { map } = await readBucketMap(db);
  await db.end();
  shard = openShard(1, url, map, quiet);
});

after(() => shard.close());

function pay(debit: Account, credit: Account, amountMinorUnits: bigint) {
  const name = ({ accountId }: Account) => lockedAccount({ id: accountId, uuid: idToUuid(accountId) });
  return transferCommand([[name(debit), name(credit), amountMinorUnits]]);
}

/** A writer that knows the accounts as they are, and the clock. */
async function writerKnowing(...accounts: readonly Account[]): Promise<CommandWriter> {
  const writer = commandWriter(shard);
  const [first, second] = [await openFunded(10n), await openAccount()];
  await writeBatch(writer, quiet, [pay(first, second, 1n)]);
  await writer.known.learn(new Map(accounts.map(({ accountId }) => [idToUuid(accountId), accountId])));
  return writer;
}

test("two batches are sent one behind the other, the second on what the first leaves, and both come through", async () => {
  const [payer, middle, payee] = [await openFunded(1_000n), await openAccount(), await openAccount()];
  const writer = await writerKnowing(payer, middle, payee);
  const attempts = await Promise.all([
    tryOptimistically(writer, [pay(payer, middle, 600n)]),
    tryOptimistically(writer, [pay(middle, payee, 600n)]),
  ]);
  assert.deepEqual(
    attempts.map(({ kind }) => kind),
    ["committed", "committed"],
  );
  assert.deepEqual(await Promise.all([payer, middle, payee].map(posted)), [400n, 0n, 600n]);
});

test("a batch that stands on one that failed fails as well, though another process has come to the same version", async () => {
  const [giver, payer] = [await openFunded(1_000n), await openFunded(1_000n)];
  const [payee, other] = [await openAccount(), await openAccount()];
  const writer = await writerKnowing(giver, payer, payee);
  // The stack's ledger: the payer is one version further, with 100 left.
  await transfer(payer.accountId, other.accountId, 900n);
  // Here it goes one version further as well, to 1,050; and then to 50.
  const second = pay(payer, payee, 1_000n);
  const attempts = await Promise.all([
    tryOptimistically(writer, [pay(giver, payer, 50n)]),
    tryOptimistically(writer, [second]),
  ]);
  assert.deepEqual(
    attempts.map(({ kind }) => kind),
    ["refused", "refused"],
  );
  const [outcome] = await writeBatch(writer, quiet, [second]);
  assert.equal(outcome?.kind === "refused" && outcome.refusal.reason, "INSUFFICIENT_FUNDS");
  assert.deepEqual(await Promise.all([giver, payer, payee].map(posted)), [1_000n, 100n, 0n]);
  await assertInvariants();
});

test("a refusal on what is not so is not given: accounts that are only read are checked too", async () => {
  const [payer, payee] = [await openFunded(10n), await openAccount()];
  const writer = await writerKnowing(payer, payee);
  await transfer("system:cash", payer.accountId, 90n);
  const command = pay(payer, payee, 100n);
  assert.equal((await tryOptimistically(writer, [command])).kind, "refused");
  const [outcome] = await writeBatch(writer, quiet, [command]);
  assert.equal(outcome?.kind, "done");
});

test("an account that another process has frozen takes no part", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const writer = await writerKnowing(payer, payee);
  await setStatus("freeze", payee.accountId);
  const command = pay(payer, payee, 1n);
  assert.equal((await tryOptimistically(writer, [command])).kind, "refused");
  const [outcome] = await writeBatch(writer, quiet, [command]);
  assert.equal(outcome?.kind === "refused" && outcome.refusal.reason, "ACCOUNT_FROZEN");
});

test("a key that was used before is replayed, whichever way the batch took", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const writer = await writerKnowing(payer, payee);
  const command = pay(payer, payee, 1n);
  assert.equal((await tryOptimistically(writer, [command])).kind, "committed");
  const again = { ...command, transferId: "", transferUuid: "" };
  assert.equal((await tryOptimistically(writer, [again])).kind, "refused");
  const [outcome] = await writeBatch(writer, quiet, [command]);
  assert.equal(outcome?.kind, "done");
  assert.equal(await posted(payee), 1n);
});

test("an account that is forgotten while a batch is put together is not taken for one that is not there", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const writer = await writerKnowing(payer, payee);
  const attempt = tryOptimistically(writer, [pay(payer, payee, 1n)]);
  writer.known.forget([lockedAccount({ uuid: idToUuid(payer.accountId) })]);
  assert.equal((await attempt).kind, "not_known");
  // What was never there is refused, and what is there is learned.
  const nobody = lockedAccount({}, 1);
  const command = transferCommand([
    [lockedAccount({ id: payer.accountId, uuid: idToUuid(payer.accountId) }), nobody, 1n],
  ]);
  const found = await tryOptimistically(writer, [command]);
  const [outcome] = found.kind === "committed" ? found.outcomes : [];
  assert.equal(outcome?.kind === "refused" && outcome.refusal.reason, "ACCOUNT_NOT_FOUND");
});
