import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { stackEnvironment } from "#infra/local/endpoints.ts";
import { call, readDetails } from "#lib/grpc-client.ts";
import { CaptureHoldRequest, Hold_State, Transfer_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { holdRequest } from "#tests/holds.ts";
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
  stackName,
  transferRequest,
} from "#tests/stack.ts";

/**
 * A ledger whose way to shard 1 leads through a proxy that can lose the answer to a commit: Postgres has committed, and the
 * connection breaks before the ledger hears of it. Or the commit itself is lost on its way.
 */
const GRPC_PORT = 17_321;
const PROXY_PORT = 17_399;
/** The simple query `commit` of the Postgres protocol: 'Q', length, text, NUL. */
const COMMIT = Buffer.from("Q\0\0\0\x0bcommit\0", "latin1");

type Fault =
  | "none"
  | "lose the answer"
  | "lose the commit"
  | "refuse connections after the answer is lost"
  | "refuse statements after the answer is lost";
let fault: Fault = "none";
let lost = 0;
let refusing = false;
const KEYS_FUNCTION = "read_known_keys(smallint[], text[], text[], text[])";
let further: LedgerProcess;

const proxy = createServer((client) => {
  if (refusing) {
    client.destroy();
    return;
  }
  const [shard] = stackEnvironment(stackName, "ledger").LEDGERMESH_SHARDS?.split(",") ?? [];
  const server = connect(Number(new URL(shard as string).port), "127.0.0.1");
  let dropAnswers = false;
  let refuseStatements = false;
  const end = (one: Socket, other: Socket) => one.on("error", () => other.destroy()).on("close", () => other.destroy());
  end(client, server);
  end(server, client);
  client.on("data", (bytes) => {
    if (fault !== "none" && bytes.includes(COMMIT)) {
      lost += 1;
      if (fault === "lose the commit") {
        fault = "none";
        client.destroy();
        return;
      }
      if (fault === "refuse connections after the answer is lost") refusing = true;
      refuseStatements = fault === "refuse statements after the answer is lost";
      fault = "none";
      dropAnswers = true;
    }
    server.write(bytes);
  });
  server.on("data", (bytes) => {
    if (!dropAnswers) client.write(bytes);
    // ReadyForQuery, not in a transaction: the commit is done.
    else if (bytes.includes(Buffer.from("COMMIT\0Z\0\0\0\x05I", "latin1"))) {
      if (!refuseStatements) client.destroy();
      else
        void postgres(1)
          .query(`alter function ledger.${KEYS_FUNCTION} rename to away`)
          .then(() => client.destroy());
    }
  });
});

before(async () => {
  await new Promise<void>((resolve) => proxy.listen(PROXY_PORT, "127.0.0.1", resolve));
  const shards = stackEnvironment(stackName, "ledger").LEDGERMESH_SHARDS?.split(",") ?? [];
  const first = new URL(shards[0] as string);
  first.port = String(PROXY_PORT);
  further = await startLedger(GRPC_PORT, [first.toString(), ...shards.slice(1)]);
});

after(() => {
  further.signal("SIGKILL");
  proxy.close();
});

test("a commit whose answer is lost is found by its key, and answered as the first answer", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  [fault, lost] = ["lose the answer", 0];
  const answer = await call(further.client, further.client.createTransfer, request);
  assert.equal(lost, 1);
  assert.deepEqual([answer.response.state, answer.replayed], [Transfer_State.POSTED, false]);
  assert.equal(answer.response.balances[0]?.postedMinorUnits, 90n);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 10n);
  assert.equal((await call(ledger, ledger.createTransfer, request)).position, answer.position);
});

test("a group whose commit is not answered is found by its keys; one whose commit is lost is made again", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  for (const [round, next] of (["lose the answer", "lose the commit"] as const).entries()) {
    const transfers = [10n, 20n].map((amount) => ({
      ...transferRequest(payer.accountId, payee.accountId, amount),
      group: "both",
    }));
    [fault, lost] = [next, 0];
    const { response } = await call(further.client, further.client.batchCreateTransfers, { transfers });
    assert.equal(lost, 1);
    const before = 100n - 30n * BigInt(round);
    assert.deepEqual(
      response.results.map(({ outcome, replayed }) => [
        outcome?.$case === "transfer" ? outcome.value.balances[0]?.postedMinorUnits : outcome?.value.message,
        replayed,
      ]),
      [
        [before - 10n, false],
        [before - 30n, false],
      ],
    );
    assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 130n - before);
    const again = await call(ledger, ledger.batchCreateTransfers, { transfers });
    assert.deepEqual(
      again.response.results,
      response.results.map((result) => ({ ...result, replayed: true })),
    );
  }
});

test("a refused group whose commit is not answered is found refused by its keys", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const transfers = [10n, 91n].map((amount) => ({
    ...transferRequest(payer.accountId, payee.accountId, amount),
    group: "both",
  }));
  [fault, lost] = ["lose the answer", 0];
  const { response } = await call(further.client, further.client.batchCreateTransfers, { transfers });
  assert.equal(lost, 1);
  const reasons = response.results.map(({ outcome }) =>
    outcome?.$case === "error" ? readDetails(outcome.value).info?.reason : "POSTED",
  );
  assert.deepEqual(reasons, ["GROUP_REFUSED", "INSUFFICIENT_FUNDS"]);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 0n);
});

test("a commit that is lost on its way is made again", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  [fault, lost] = ["lose the commit", 0];
  const answer = await call(
    further.client,
    further.client.createTransfer,
    transferRequest(payer.accountId, payee.accountId, 10n),
  );
  assert.equal(lost, 1);
  assert.deepEqual([answer.response.state, answer.replayed], [Transfer_State.POSTED, false]);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 10n);
});

test("a hold, its capture and its void whose commits are lost, or their answers, are each made once", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  for (const loss of ["lose the answer", "lose the commit"] as const) {
    const losing = <Request, Response>(method: Parameters<typeof call<Request, Response>>[1], request: Request) => {
      [fault, lost] = [loss, 0];
      return call(further.client, method, request);
    };
    const { client } = further;
    const made = await losing(client.createHold, holdRequest(payer.accountId, payee.accountId, 30n));
    const { holdId } = made.response;
    assert.deepEqual([lost, made.replayed, made.response.remainingMinorUnits], [1, false, 30n]);
    const part = CaptureHoldRequest.fromPartial({ holdId, amountMinorUnits: 10n, idempotencyKey: newKey() });
    const captured = await losing(client.captureHold, part);
    assert.deepEqual([lost, captured.replayed, captured.response.balances[0]?.heldMinorUnits], [1, false, 20n]);
    const voided = await losing(client.voidHold, { holdId, idempotencyKey: newKey() });
    assert.deepEqual([lost, voided.replayed, voided.response.state], [1, false, Hold_State.VOIDED]);
    assert.deepEqual([voided.response.version, voided.response.capturedMinorUnits], [3n, 10n]);
    assert.notEqual(voided.position, undefined);
  }
  const { postedMinorUnits, heldMinorUnits } = await readAccount(payer.accountId);
  assert.deepEqual([postedMinorUnits, heldMinorUnits], [80n, 0n]);
});

test("when Postgres refuses the look-up after a lost answer, what was decided is not given back on other shards", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount({}, 2)];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  [fault, lost] = ["refuse statements after the answer is lost", 0];
  const { response } = await call(further.client, further.client.createTransfer, request).finally(() =>
    postgres(1).query(
      `alter function ledger.${KEYS_FUNCTION.replace("read_known_keys", "away")} rename to read_known_keys`,
    ),
  );
  assert.equal(lost, 1);
  assert.equal(response.state, Transfer_State.PROCESSING);
  await eventually(async () => (await readAccount(payee.accountId)).postedMinorUnits === 10n, "recovery posts it");
  const again = await call(ledger, ledger.createTransfer, request);
  assert.deepEqual([again.response.transferId, again.replayed], [response.transferId, true]);
  await assertInvariants();
});

test("when the shard stays away after a lost answer the command is PROCESSING, and its id is the one that was made", async () => {
  const [payer, payee] = [await openFunded(100n), await openAccount()];
  const request = transferRequest(payer.accountId, payee.accountId, 10n);
  [fault, lost] = ["refuse connections after the answer is lost", 0];
  const started = performance.now();
  const { response } = await call(further.client, further.client.createTransfer, request);
  assert.ok(performance.now() - started < 5_000, "a command answers within 5 s");
  assert.equal(lost, 1);
  assert.equal(response.state, Transfer_State.PROCESSING);
  assert.deepEqual(response.balances, []);
  refusing = false;
  const again = await call(ledger, ledger.createTransfer, request);
  assert.deepEqual([again.response.transferId, again.replayed], [response.transferId, true]);
  assert.equal((await readAccount(payee.accountId)).postedMinorUnits, 10n);
  await assertInvariants();
});
