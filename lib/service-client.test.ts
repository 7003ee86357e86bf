import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { CallError, call } from "#lib/grpc-client.ts";
import { type Call, type GrpcServer, startGrpcServer, unary } from "#lib/grpc-server.ts";
import { createLogger } from "#lib/log.ts";
import { Refusal, type RefusalStatus } from "#lib/refusal.ts";
import { callDuring, openServiceClient } from "#lib/service-client.ts";
import { openTls, type Tls } from "#lib/tls.ts";
import {
  Account,
  BatchCreateTransfersResponse,
  LedgerServiceClient,
  LedgerServiceService,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type Certificates, makeCertificates } from "#tests/certificates.ts";

/** One service calls another, which fails on demand. */

const UNAVAILABLE = 14;
const DEADLINE_EXCEEDED = 4;
const MAX_ATTEMPTS = 3;
/** So many failed attempts, half of which may be followed by another; each success gives this share of one back. */
const BUDGET = 20;
const SHARE = 0.1;
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const log = createLogger("test");
log.level = "silent";

let certificates: Certificates;
let identityTls: Tls;
let server: GrpcServer;
let client: LedgerServiceClient;
/** What the server is to do with the next calls; after them it answers. */
let failures: RefusalStatus[] = [];
let isDown = false;
/** What reached it. */
let received: Call[] = [];

before(async () => {
  certificates = await makeCertificates();
  identityTls = openTls(certificates.files("identity"));
  const answerTo = (message: object) =>
    unary(undefined, log, (_, __, incoming) => {
      received.push(incoming);
      const failure = isDown ? "UNAVAILABLE" : failures.shift();
      if (failure !== undefined) return Promise.reject(new Refusal(failure, "ON_DEMAND", "as the test asked"));
      return Promise.resolve(message);
    });
  const handlers = Object.fromEntries(
    Object.keys(LedgerServiceService).map((name) => [name, answerTo(Account.fromPartial({}))]),
  );
  handlers.batchCreateTransfers = answerTo(BatchCreateTransfersResponse.fromPartial({}));
  server = await startGrpcServer(
    0,
    [{ definition: LedgerServiceService, handlers, access: undefined }],
    openTls(certificates.files("ledger")),
  );
  client = openServiceClient(LedgerServiceClient, `127.0.0.1:${server.port}`, identityTls);
});
beforeEach(() => {
  failures = [];
  received = [];
  isDown = false;
});
after(() => {
  client.close();
  server.destroy();
});

const read = () => call(client, client.getAccount, { accountId: "acct_1" });
const freeze = () => call(client, client.freezeAccount, { accountId: "acct_1", reason: "", idempotencyKey: "key-1" });

test("a read, and a command with its key, is sent again when the service was unavailable", async () => {
  for (const send of [read, freeze]) {
    received = [];
    failures = ["UNAVAILABLE", "UNAVAILABLE"];
    await send();
    assert.equal(received.length, MAX_ATTEMPTS);
    assert.deepEqual(new Set(received.map(({ peer }) => peer)), new Set(["identity"]));
  }
});

test("it is given up after three times, with the service's own reason", async () => {
  failures = ["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"];
  await assert.rejects(read(), { code: UNAVAILABLE, reason: "ON_DEMAND" });
  assert.equal(received.length, MAX_ATTEMPTS);
});

test("nothing else is sent again: not another status, not a command whose request has no key", async () => {
  for (const status of ["INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"] as const) {
    received = [];
    failures = [status];
    await assert.rejects(read(), { reason: "ON_DEMAND" });
    assert.equal(received.length, 1, status);
  }
  received = [];
  failures = ["UNAVAILABLE"];
  await assert.rejects(call(client, client.batchCreateTransfers, { transfers: [] }), { code: UNAVAILABLE });
  assert.equal(received.length, 1);
});

test("a service that is down gets no flood: when the budget is used up nothing is sent again, until calls work", async () => {
  isDown = true;
  const calls = 40;
  for (let sent = 0; sent < calls; sent += 1) await assert.rejects(read(), { code: UNAVAILABLE });
  assert.ok(received.length <= calls + BUDGET / 2, `${received.length} attempts`);
  received = [];
  await assert.rejects(read(), { code: UNAVAILABLE });
  assert.equal(received.length, 1, "the budget is used up");

  isDown = false;
  for (let sent = 0; sent < BUDGET / 4 / SHARE; sent += 1) await read();
  failures = ["UNAVAILABLE"];
  await assert.rejects(read(), { code: UNAVAILABLE });
  for (let sent = 0; sent < BUDGET / 2 / SHARE; sent += 1) await read();
  received = [];
  failures = ["UNAVAILABLE"];
  await read();
  assert.equal(received.length, 2);
});

test("a call that is made while another is answered has what is left of its time, its trace and its user", async () => {
  const deadlineMs = performance.now() + 2_000;
  const incoming = { deadlineMs, traceparent: TRACE, headers: { authorization: "Bearer a.b.c", cookie: "x" } };
  const more = { headers: { "idempotency-key": "step-1" } };
  const request = { accountId: "acct_1" };
  await callDuring(incoming, client, client.getAccount, request, { as: "caller", ...more });
  await callDuring(incoming, client, client.getAccount, request, { as: "self", ...more });
  const [asCaller, asSelf] = received as [Call, Call];
  for (const seen of [asCaller, asSelf]) {
    assert.equal(seen.traceparent, TRACE);
    assert.equal(seen.idempotencyKey, "step-1");
    assert.equal(seen.headers.cookie, undefined);
    assert.ok(seen.deadlineMs !== undefined && seen.deadlineMs < deadlineMs, "the way back has its share");
    assert.ok(seen.deadlineMs > deadlineMs - 1_000);
  }
  assert.equal(asCaller.headers.authorization, "Bearer a.b.c");
  assert.equal(asSelf.headers.authorization, undefined);
});

test("a caller that waits for ever is given a bound, and a shorter bound of the call's own counts", async () => {
  const incoming = { deadlineMs: undefined, traceparent: undefined, headers: {} };
  const request = { accountId: "acct_1" };
  await callDuring(incoming, client, client.getAccount, request, { as: "caller" });
  await callDuring({ ...incoming, deadlineMs: performance.now() + 60_000 }, client, client.getAccount, request, {
    as: "caller",
    timeoutMs: 1_000,
  });
  const [unbounded, own] = received.map(({ deadlineMs }) => (deadlineMs ?? Number.NaN) - performance.now());
  assert.ok((unbounded ?? 0) > 3_000 && (unbounded ?? 0) <= 5_000, `${unbounded} ms`);
  assert.ok((own ?? 0) > 500 && (own ?? 0) <= 1_000, `${own} ms`);
});

test("without time nothing is sent, and nothing is sent again after it", async () => {
  const incoming = (leftMs: number) => ({
    deadlineMs: performance.now() + leftMs,
    traceparent: undefined,
    headers: {},
  });
  const send = (leftMs: number) =>
    callDuring(incoming(leftMs), client, client.getAccount, { accountId: "acct_1" }, { as: "caller" });
  await read();
  received = [];
  await assert.rejects(send(10), { code: DEADLINE_EXCEEDED });
  assert.equal(received.length, 0);

  isDown = true;
  const startedMs = performance.now();
  await assert.rejects(send(80), CallError);
  assert.ok(performance.now() - startedMs < 500);
});
