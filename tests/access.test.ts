import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { developmentToken } from "#infra/local/development-key.ts";
import { stackEnvironment } from "#infra/local/endpoints.ts";
import { type Answer, CallError, call } from "#lib/grpc-client.ts";
import { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { ListEntriesRequest, ListTransfersRequest } from "#proto/ledgermesh/reporting/v1/history.ts";
import { errorOf, rest } from "#tests/rest.ts";
import {
  eventually,
  history,
  identity,
  ledger,
  newId,
  newKey,
  newOwner,
  openAccount,
  openFunded,
  restUrl,
  stackName,
  transfer,
  transferRequest,
} from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

/** What each role reaches on the running system, and what not. Of tokens by themselves: lib/access-token.test.ts. */

const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;

type Headers = Record<string, string>;

const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });

async function headersOf(
  role: "user" | "merchant" | "operator",
  userId: string,
  secondFactor = role === "operator",
): Promise<Headers> {
  return bearer((await developmentToken(stackName, role, userId, secondFactor)).token);
}

const listEntries = (request: Partial<ListEntriesRequest>, headers: Headers) =>
  untilReached(() => call(history, history.listEntries, ListEntriesRequest.fromPartial(request), headers));
const listTransfers = (request: Partial<ListTransfersRequest>, headers: Headers) =>
  untilReached(() => call(history, history.listTransfers, ListTransfersRequest.fromPartial(request), headers));

async function untilReached<Response>(query: () => Promise<Answer<Response>>): Promise<Response> {
  for (;;) {
    try {
      return (await query()).response;
    } catch (error) {
      // A busy machine may be behind, and a new stack may have no index yet.
      const passing = ["PROJECTION_BEHIND", "HISTORY_UNAVAILABLE"];
      if (!(error instanceof CallError && passing.includes(error.reason))) throw error;
    }
  }
}

/** An error as its caller sees it, without the id that was asked for. */
async function errorWithout(id: string, failing: Promise<unknown>): Promise<unknown> {
  const error = await failing.then(
    () => assert.fail("it was answered"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CallError, String(error));
  const { code, reason, message, metadata, fields, retryAfterMs } = error;
  return JSON.parse(JSON.stringify({ code, reason, message, metadata, fields, retryAfterMs }).replaceAll(id, "ID"));
}

/** Alice has paid Bob; `position` is that of the payment. */
async function aliceAndBob() {
  const [aliceId, bobId] = [newOwner(1), newOwner(2)];
  const alice = await openFunded(1_000n, { ownerId: aliceId });
  const bob = await openAccount({ ownerId: bobId }, 2);
  const { position = "" } = await transfer(alice.accountId, bob.accountId, 100n);
  return { aliceId, bobId, alice: alice.accountId, bob: bob.accountId, readAfter: { "x-read-after": position } };
}

test("users and merchants see the history of their own accounts", async () => {
  const { aliceId, bobId, alice, bob, readAfter } = await aliceAndBob();
  const asAlice = { ...(await headersOf("user", aliceId)), ...readAfter };
  const asBob = { ...(await headersOf("merchant", bobId)), ...readAfter };
  const { entries } = await listEntries({ accountId: alice }, asAlice);
  assert.deepEqual(
    entries.map(({ amountMinorUnits }) => amountMinorUnits),
    [-100n, 1_000n],
  );
  assert.equal((await listTransfers({ accountId: alice }, asAlice)).transfers.length, 2);
  assert.equal((await listEntries({ accountId: bob }, asBob)).entries.length, 1);
});

test("another's account is answered, to the last letter, as one that is not there", async () => {
  const { aliceId, bob, readAfter } = await aliceAndBob();
  const asAlice = await headersOf("user", aliceId);
  const absent = newId("acct", 7);
  for (const more of [{}, readAfter]) {
    for (const list of [listEntries, listTransfers]) {
      const headers = { ...asAlice, ...more };
      const others = await errorWithout(bob, list({ accountId: bob }, headers));
      assert.deepEqual(others, await errorWithout(absent, list({ accountId: absent }, headers)));
      assert.equal((others as { code: number }).code, NOT_FOUND);
      assert.equal((others as { reason: string }).reason, "ACCOUNT_NOT_FOUND");
    }
  }
  // A position that is never reached tells nothing either: both wait for it.
  const far = { ...asAlice, "x-read-after": Buffer.from("1:999999999").toString("base64url") };
  const query = (accountId: string) =>
    errorWithout(accountId, call(history, history.listEntries, ListEntriesRequest.fromPartial({ accountId }), far));
  assert.deepEqual((await query(bob)) as object, (await query(absent)) as object);
});

test("users must name an account, and services and operators need not", async () => {
  const asUser = await headersOf("user", newOwner());
  await assert.rejects(listEntries({}, asUser), { code: INVALID_ARGUMENT, fields: ["account_id"] });
  await assert.rejects(listTransfers({ accountId: "x" }, asUser), { code: INVALID_ARGUMENT, fields: ["account_id"] });
  await listEntries({}, {});
  const { alice, bob, readAfter } = await aliceAndBob();
  const asOperator = { ...(await headersOf("operator", newOwner())), ...readAfter };
  await listEntries({}, asOperator);
  for (const accountId of [alice, bob]) {
    assert.ok((await listEntries({ accountId }, asOperator)).entries.length > 0);
  }
});

test("of a transfer of several, each sees what they had of it", async () => {
  const [buyerId, sellerId] = [newOwner(), newOwner()];
  const buyer = (await openFunded(1_000n, { ownerId: buyerId })).accountId;
  const seller = (await openAccount({ ownerId: sellerId })).accountId;
  const other = (await openAccount()).accountId;
  const request = CreateTransferRequest.fromPartial({
    postings: [seller, other].map((creditAccountId) => ({
      debitAccountId: buyer,
      creditAccountId,
      amountMinorUnits: 10n,
      currency: "EUR",
    })),
    idempotencyKey: newKey(),
  });
  const { position = "" } = await call(ledger, ledger.createTransfer, request);
  const readAfter = { "x-read-after": position };
  const seen = async (accountId: string, headers: Headers) =>
    (await listTransfers({ accountId }, { ...headers, ...readAfter })).transfers[0]?.postings.map(
      ({ creditAccountId }) => creditAccountId,
    );
  assert.deepEqual(await seen(seller, await headersOf("merchant", sellerId)), [seller]);
  assert.deepEqual(await seen(buyer, await headersOf("user", buyerId)), [seller, other]);
  assert.deepEqual(await seen(seller, {}), [seller, other]);
});

test("a page token is of no use to another user", async () => {
  const { aliceId, bobId, alice, bob, readAfter } = await aliceAndBob();
  const asAlice = { ...(await headersOf("user", aliceId)), ...readAfter };
  const { nextPageToken } = await listEntries({ accountId: alice, pageSize: 1 }, asAlice);
  assert.notEqual(nextPageToken, "");
  assert.equal(
    (await listEntries({ accountId: alice, pageSize: 1, pageToken: nextPageToken }, asAlice)).hasMore,
    false,
  );
  const asBob = { ...(await headersOf("user", bobId)), ...readAfter };
  const stolen = { pageSize: 1, pageToken: nextPageToken };
  await assert.rejects(listEntries({ ...stolen, accountId: bob }, asBob), { reason: "PAGE_TOKEN_INVALID" });
  await assert.rejects(listEntries({ ...stolen, accountId: alice }, asBob), { reason: "ACCOUNT_NOT_FOUND" });
  // A service sees the account, but did not ask for this page.
  await assert.rejects(listEntries({ ...stolen, accountId: alice }, {}), { reason: "PAGE_TOKEN_INVALID" });
});

test("the ledger itself is for services, and for operators with a second factor", async () => {
  const userId = newOwner();
  const account = await openFunded(100n, { ownerId: userId });
  const read = (headers: Headers) => call(ledger, ledger.getAccount, { accountId: account.accountId }, headers);
  for (const role of ["user", "merchant"] as const) {
    const refused = { code: PERMISSION_DENIED, reason: "ROLE_NOT_ALLOWED" };
    await assert.rejects(read(await headersOf(role, userId)), refused);
    await assert.rejects(
      call(
        ledger,
        ledger.createTransfer,
        transferRequest(account.accountId, "system:cash", 1n),
        await headersOf(role, userId),
      ),
      refused,
    );
  }
  await assert.rejects(read(await headersOf("operator", userId, false)), {
    code: PERMISSION_DENIED,
    reason: "SECOND_FACTOR_REQUIRED",
  });
  assert.equal((await read(await headersOf("operator", userId))).response.postedMinorUnits, 100n);
});

test("a bad token is refused, even of a process that needs none", async () => {
  const { accountId } = await openAccount();
  const good = (await developmentToken(stackName, "service", "service:console")).token;
  const [header, payload, signature] = good.split(".") as [string, string, string];
  const none = Buffer.from(JSON.stringify({ alg: "none", kid: "development" })).toString("base64url");
  const operator = Buffer.from(
    JSON.stringify({ ...JSON.parse(Buffer.from(payload, "base64url").toString()), sub: "service:ledger" }),
  ).toString("base64url");
  for (const token of [
    `${none}.${payload}.`,
    `${none}.${payload}.${signature}`,
    `${header}.${operator}.${signature}`,
  ]) {
    await assert.rejects(call(ledger, ledger.getAccount, { accountId }, bearer(token)), {
      code: UNAUTHENTICATED,
      reason: "TOKEN_INVALID",
    });
  }
  await call(ledger, ledger.getAccount, { accountId }, bearer(good));
});

test("an idempotency key belongs to who uses it, whatever way they come", async () => {
  const account = await openFunded(1_000n);
  const request = transferRequest("system:cash", account.accountId, 1n, { idempotencyKey: newKey() });
  const made = await call(ledger, ledger.createTransfer, request);
  const again = await call(
    ledger,
    ledger.createTransfer,
    request,
    bearer((await developmentToken(stackName, "service", "service:console")).token),
  );
  assert.deepEqual([again.replayed, again.response.transferId], [true, made.response.transferId]);
  const other = await call(ledger, ledger.createTransfer, request, await headersOf("operator", newOwner()));
  assert.equal(other.replayed, false);
  assert.notEqual(other.response.transferId, made.response.transferId);
});

test("over REST it is the same, in the one shape of errors", async () => {
  const { aliceId, alice, bob, readAfter } = await aliceAndBob();
  const { token } = await developmentToken(stackName, "user", aliceId, false);
  await listEntries({ accountId: alice }, readAfter);
  const entries = (accountId: string) => `${restUrl}/v1/history/entries?account_id=${accountId}`;
  const own = await rest(entries(alice), { token });
  assert.equal(own.status, 200, own.text);
  const others = errorOf(await rest(entries(bob), { token }));
  assert.deepEqual([others.status, others.reason], [404, "ACCOUNT_NOT_FOUND"]);
  const ledgerOf = errorOf(await rest(`${restUrl}/v1/ledger/accounts/${alice}`, { token }));
  assert.deepEqual([ledgerOf.status, ledgerOf.reason], [403, "ROLE_NOT_ALLOWED"]);
});

test("a session's token counts in every service, and not for long after the session was ended", async () => {
  const user = await signUp();
  const { accountId } = await openAccount({ ownerId: user.userId });
  const { accessToken, refreshToken } = await signIn(user);
  const headers = bearer(accessToken);
  // A service that has just started does not know yet which sessions were ended.
  await eventually(async () => {
    const { entries } = await listEntries({ accountId }, headers);
    return entries.length === 0;
  }, "the token is taken");
  await assert.rejects(call(ledger, ledger.getAccount, { accountId }, headers), { reason: "ROLE_NOT_ALLOWED" });

  // Used twice: one of the two has stolen it, and the session ends.
  const refresh = () => call(identity, identity.refreshSession, { refreshToken, idempotencyKey: "" });
  await refresh();
  await assert.rejects(refresh());
  const endedMs = performance.now();
  await eventually(
    () =>
      call(ledger, ledger.getAccount, { accountId }, headers).then(
        () => false,
        (error: unknown) => error instanceof CallError && error.reason === "SESSION_REVOKED",
      ),
    "the ledger refuses the token",
    60_000,
  );
  await eventually(
    () =>
      call(history, history.listEntries, ListEntriesRequest.fromPartial({ accountId }), headers).then(
        () => false,
        (error: unknown) => error instanceof CallError && error.reason === "SESSION_REVOKED",
      ),
    "the history refuses the token",
    60_000,
  );
  assert.ok(performance.now() - endedMs < 60_000);
});

test("a service does not start with the development key where it is not development", async () => {
  for (const name of ["production", undefined]) {
    const { LEDGERMESH_ENVIRONMENT: _, ...environment } = stackEnvironment(stackName, "ledger");
    const env = { ...environment, ...(name === undefined ? {} : { LEDGERMESH_ENVIRONMENT: name }) };
    const child = spawn(process.execPath, ["services/ledger/main.ts"], { env, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    const [code] = await once(child, "close");
    assert.equal(code, 1);
    assert.match(said, /LEDGERMESH_DEVELOPMENT_TOKEN_KEY_FILE is set, and LEDGERMESH_ENVIRONMENT is production/);
  }
});
