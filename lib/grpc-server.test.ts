import assert from "node:assert/strict";
import {
  type ClientHttp2Session,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from "node:http2";
import { after, before, test } from "node:test";
import { CallError, call, openClient } from "#lib/grpc-client.ts";
import { type Call, type GrpcServer, startGrpcServer, unary } from "#lib/grpc-server.ts";
import { createLogger } from "#lib/log.ts";
import { Refusal } from "#lib/refusal.ts";
import { openTls, type Tls } from "#lib/tls.ts";
import { Account, LedgerServiceClient, LedgerServiceService } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { makeCertificates } from "#tests/certificates.ts";

const PATH = "/ledgermesh.ledger.v1.LedgerService/GetAccount";
const log = createLogger("test");
log.level = "silent";

let serverTls: Tls;
let consoleTls: Tls;
let server: GrpcServer;
let session: ClientHttp2Session;
let client: LedgerServiceClient;
/** What the handler does with a call. */
let handle: (accountId: string, call: Call) => Promise<Account> = (accountId) => Promise.resolve(account(accountId));
let calls = 0;

const account = (accountId: string) => Account.fromPartial({ accountId });

before(async () => {
  const handler = unary(undefined, log, (_: undefined, { accountId }: { accountId: string }, headers) => {
    calls += 1;
    return handle(accountId, headers);
  });
  const handlers = Object.fromEntries(Object.keys(LedgerServiceService).map((name) => [name, handler]));
  const certificates = await makeCertificates();
  serverTls = openTls(certificates.files("ledger"));
  consoleTls = openTls(certificates.files("console"));
  server = await startGrpcServer(0, [{ definition: LedgerServiceService, handlers, access: undefined }], serverTls);
  session = connectTo(server);
  client = openClient(LedgerServiceClient, `127.0.0.1:${server.port}`, consoleTls);
});
after(() => {
  client.close();
  session.destroy();
  server.destroy();
});

const getAccount = (accountId: string, headers = {}) => call(client, client.getAccount, { accountId }, headers);

/** A connection of the process `console`. */
function connectTo({ port }: GrpcServer, options: SecureClientSessionOptions = {}): ClientHttp2Session {
  return connect(`https://127.0.0.1:${port}`, { ...consoleTls.options(), ...options });
}

/** A frame of gRPC around a GetAccountRequest. */
function frame(accountId: string, compressed = 0): Buffer {
  const id = Buffer.from(accountId);
  const message = Buffer.concat([Buffer.from([0x0a, id.length]), id]);
  const header = Buffer.alloc(5);
  header[0] = compressed;
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

/** Sends bytes as they are; answers headers and trailers together. */
function send(headers: OutgoingHttpHeaders, ...chunks: Buffer[]): Promise<IncomingHttpHeaders> {
  const stream = session.request({
    ":method": "POST",
    ":path": PATH,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  return new Promise((resolve, reject) => {
    const received: IncomingHttpHeaders = {};
    stream.on("response", (some) => Object.assign(received, some));
    stream.on("trailers", (some) => Object.assign(received, some));
    stream.on("error", reject);
    stream.on("close", () => resolve(received));
    stream.resume();
  });
}

test("a call is answered, with headers of its own", async () => {
  handle = (accountId, { setPosition, markReplayed, headers }) => {
    setPosition("MTo3");
    markReplayed();
    return Promise.resolve({ ...account(accountId), reference: String(headers["x-thing"]) });
  };
  const answer = await getAccount("acct_1", { "x-thing": "seen" });
  assert.deepEqual([answer.response.accountId, answer.response.reference], ["acct_1", "seen"]);
  assert.deepEqual([answer.position, answer.replayed], ["MTo3", true]);
});

test("a handler learns who calls, until when they wait, and which trace it belongs to", async () => {
  const seen: Call[] = [];
  handle = (accountId, call) => {
    seen.push(call);
    return Promise.resolve(account(accountId));
  };
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const before = performance.now();
  await send(
    { traceparent, "grpc-timeout": "2500m", "x-envoy-external-address": "192.0.2.7", "x-forwarded-for": "192.0.2.8" },
    frame("acct_1"),
  );
  await send({ traceparent: traceparent.replace("4bf9", "xxxx"), "grpc-timeout": "5x" }, frame("acct_1"));
  const [full, bad] = seen;
  assert.deepEqual([full?.peer, full?.principal], ["console", { role: "SERVICE", name: "console" }]);
  assert.equal(full?.caller, "service:console");
  assert.equal(full?.traceparent, traceparent);
  const left = (full?.deadlineMs ?? 0) - before;
  assert.ok(left >= 2_500 && left < 5_000, `${left} ms are left`);
  assert.equal(full?.clientAddress, undefined, "only the gateway is believed about the client's address");
  assert.deepEqual([bad?.traceparent, bad?.deadlineMs], [undefined, undefined]);
});

test("a refusal keeps its status, reason and text in any script, and its headers", async () => {
  handle = (_, { markReplayed }) => {
    markReplayed();
    return Promise.reject(
      new Refusal("FAILED_PRECONDITION", "SOME_REASON", "100 % “ünïcode” 🪙\nnext line", { metadata: { a: "b" } }),
    );
  };
  await assert.rejects(getAccount("acct_1"), {
    code: 9,
    reason: "SOME_REASON",
    message: "100 % “ünïcode” 🪙\nnext line",
    metadata: { a: "b" },
    replayed: true,
  });
});

test("a bug is INTERNAL with fixed text", async () => {
  handle = () => Promise.reject(new Error("the password is 123"));
  await assert.rejects(getAccount("acct_1"), (error) => {
    assert.ok(error instanceof CallError);
    assert.deepEqual([error.code, error.reason], [13, "INTERNAL"]);
    assert.doesNotMatch(error.message, /password/);
    return true;
  });
});

test("what is not gRPC is refused by HTTP, and what is no method of ours by gRPC", async () => {
  const before = calls;
  assert.equal((await send({ ":method": "GET" }))[":status"], 405);
  assert.equal((await send({ "content-type": "application/json" }))[":status"], 415);
  assert.equal((await send({ "content-type": "application/grpc-web" }))[":status"], 415);
  assert.equal((await send({ ":path": "/no.Service/Method" }, frame("acct_1")))["grpc-status"], "12");
  assert.equal(calls, before);
});

test("a body that is not one whole message reaches no handler", async () => {
  handle = (accountId) => Promise.resolve(account(accountId));
  const before = calls;
  const whole = frame("acct_1");
  assert.equal((await send({}))["grpc-status"], "13");
  assert.equal((await send({}, whole.subarray(0, 4)))["grpc-status"], "13");
  assert.equal((await send({}, whole.subarray(0, 8)))["grpc-status"], "13");
  assert.equal((await send({}, whole, whole))["grpc-status"], "13");
  assert.equal((await send({}, frame("acct_1", 1)))["grpc-status"], "12");
  assert.equal((await send({ "grpc-encoding": "gzip" }, frame("acct_1", 1)))["grpc-status"], "12");
  assert.equal((await send({}, Buffer.from([0, 0, 0, 0, 2, 0x0a, 0x7f])))["grpc-status"], "13");
  assert.equal(calls, before);
  assert.equal((await send({}, whole.subarray(0, 3), whole.subarray(3)))["grpc-status"], "0");
});

test("headers are looked at for card data as far as they are kept", async () => {
  const card = "4111 1111 1111 1111";
  const asAgent = (agent: string) => send({ "user-agent": agent }, frame("acct_x"));
  assert.match(String((await asAgent(`app ${card}`))["grpc-message"]), /^user-agent:/);
  assert.equal((await asAgent(`${"x".repeat(256)} ${card}`))["grpc-status"], "0");
  const withKey = (key: string) => send({ "idempotency-key": key }, frame("acct_x"));
  assert.match(String((await withKey(`${"x".repeat(112)}4111111111111111`))["grpc-message"]), /^idempotency_key:/);
  assert.equal((await withKey(`${"x".repeat(129)}4111111111111111`))["grpc-status"], "0");
});

test("a request beyond 8 MB is refused while it arrives, and others are served meanwhile", async () => {
  const before = calls;
  const chunk = Buffer.alloc(1024 * 1024);
  const refused = send({}, ...Array.from({ length: 10 }, () => chunk));
  assert.equal((await getAccount("acct_2")).response.accountId, "acct_2");
  assert.equal((await refused)["grpc-status"], "8");
  assert.equal(calls, before + 1);
});

test("beyond a thousand calls under way the next is refused at once, and may be repeated later", async () => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  handle = async (accountId) => {
    await released;
    return account(accountId);
  };
  const before = calls;
  const waiting = Array.from({ length: 1_000 }, () => getAccount("acct_1"));
  await until(() => calls === before + 1_000);
  await assert.rejects(getAccount("acct_1"), { code: 8, reason: "TOO_MANY_CALLS", retryAfterMs: 500 });
  assert.equal(calls, before + 1_000);
  release();
  assert.equal((await Promise.all(waiting)).length, 1_000);
  assert.equal((await getAccount("acct_1")).response.accountId, "acct_1");
});

test("a client that goes away leaves nothing behind", async () => {
  const { promise: late, resolve: answered } = Promise.withResolvers<void>();
  handle = async (accountId) => {
    await late;
    return account(accountId);
  };
  const before = calls;
  const other = connectTo(server);
  other.on("error", () => {});
  const stream = other.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc" });
  stream.on("error", () => {});
  stream.end(frame("acct_1"));
  await until(() => calls === before + 1);
  other.destroy();
  answered();
  handle = (accountId) => Promise.resolve(account(accountId));
  assert.equal((await getAccount("acct_1")).response.accountId, "acct_1");
});

test("calls whose clients went away count until their handlers are done", async () => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  handle = async (accountId) => {
    await released;
    return account(accountId);
  };
  const before = calls;
  const other = connectTo(server);
  other.on("error", () => {});
  for (let count = 0; count < 1_000; count += 1) {
    const stream = other.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc" });
    stream.on("error", () => {});
    stream.end(frame("acct_1"));
  }
  await until(() => calls === before + 1_000);
  other.destroy();
  await new Promise((resolve) => other.once("close", resolve));
  for (let tries = 0; tries < 10; tries += 1) {
    await assert.rejects(getAccount("acct_1"), { code: 8, reason: "TOO_MANY_CALLS" });
  }
  release();
  handle = (accountId) => Promise.resolve(account(accountId));
  await until(async () => (await getAccount("acct_1").catch(() => undefined)) !== undefined);
});

test("many large requests at once are refused beyond a bound of all of them, and others are served after it", async () => {
  const other = connectTo(server, { maxSessionMemory: 1_000 });
  const chunk = Buffer.alloc(4 * 1024 * 1024);
  const codes: unknown[] = [];
  const streams = Array.from({ length: 40 }, () => {
    const stream = other.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc" });
    stream.on("error", () => {});
    stream.on("response", (headers) => codes.push(headers["grpc-status"]));
    // Without an end: all of them are being received at once.
    stream.write(chunk);
    return stream;
  });
  await until(() => codes.length > 0);
  assert.deepEqual(new Set(codes), new Set(["8"]));
  for (const stream of streams) stream.close();
  await until(async () => (await getAccount("acct_1").catch(() => undefined)) !== undefined);
  other.destroy();
});

test("a stopping server ends what is under way and takes nothing new", async () => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const handler = unary(undefined, log, async (_: undefined, { accountId }: { accountId: string }) => {
    begin();
    await released;
    return account(accountId);
  });
  const handlers = Object.fromEntries(Object.keys(LedgerServiceService).map((name) => [name, handler]));
  const stopping = await startGrpcServer(
    0,
    [{ definition: LedgerServiceService, handlers, access: undefined }],
    serverTls,
  );
  const other = connectTo(stopping);
  other.on("error", () => {});
  const stream = other.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc" });
  const trailers = new Promise<IncomingHttpHeaders>((resolve) => stream.once("trailers", resolve));
  stream.resume();
  stream.end(frame("acct_1"));
  await begun;
  const stopped = stopping.stop();
  release();
  assert.equal((await trailers)["grpc-status"], "0");
  await stopped;
  await assert.rejects(new Promise((_, reject) => connectTo(stopping).once("error", reject)), {
    code: "ECONNREFUSED",
  });
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, "it did not come about");
    await new Promise((resolve) => setImmediate(resolve));
  }
}
