import assert from "node:assert/strict";
import { connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { after, before, test } from "node:test";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { parseRaw, requestText, sendRaw } from "#tests/raw-http.ts";
import { errorOf, type RestAnswer } from "#tests/rest.ts";

/** What the gateway makes of the headers of strangers, and which headers it answers with. */

const ACCOUNT = "/v1/ledger/accounts/acct_1";
const TRANSFERS = "/v1/ledger/transfers";
const OURS = "https://pay.example.com";
const MANY = { calls: 1_000_000, windowSeconds: 1 };
const REFUSED_AT_ONCE_MS = 1_000;
let gateway: GatewayProcess;

before(async () => {
  const rateLimits = { sign_in: MANY, command: MANY, query: MANY };
  gateway = await startGateway(undefined, undefined, { allowedOrigins: [OURS, "http://127.0.0.1:5173"], rateLimits });
});

after(() => gateway.stop());

const raw = async (text: string) => parseRaw(await sendRaw(text, gateway.url));
const send = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
  raw(requestText(method, path, headers, body));

/** One request on an HTTP/2 connection of its own. Rejects when the stream is reset. */
function sendHttp2(headers: OutgoingHttpHeaders): Promise<RestAnswer> {
  return new Promise((resolve, reject) => {
    const session = connect(gateway.url);
    session.on("error", reject);
    const stream = session.request(headers, { endStream: headers[":method"] !== "CONNECT" });
    let status = 0;
    let answerHeaders: IncomingHttpHeaders = {};
    let text = "";
    stream.on("response", ({ ":status": code, ...others }) => {
      status = code ?? 0;
      answerHeaders = others;
    });
    stream.on("data", (chunk) => {
      text += chunk;
    });
    stream.on("error", reject);
    stream.on("close", () => {
      session.destroy();
      resolve({ status, headers: new Headers(Object.entries(answerHeaders) as [string, string][]), text });
    });
  });
}

test("every answer, good or bad, tells browsers to keep nothing, guess nothing, frame nothing", async () => {
  const answers: [status: number, RestAnswer][] = [
    [200, await send("GET", ACCOUNT)],
    [200, await sendHttp2({ ":path": ACCOUNT })],
    [400, await send("POST", TRANSFERS, {}, "{")],
    [400, await raw("NONSENSE\r\n\r\n")],
    [403, await raw("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n")],
    [404, await send("GET", "/nothing")],
    [405, await send("DELETE", TRANSFERS)],
    [413, await send("POST", TRANSFERS, {}, `{"memo":"${"x".repeat(70_000)}"}`)],
    [415, await send("POST", TRANSFERS, { "content-type": "text/plain" }, "{}")],
    [431, await send("GET", ACCOUNT, { big: "x".repeat(40_000) })],
  ];
  for (const [expected, { status, headers }] of answers) {
    assert.equal(status, expected);
    const names = ["x-content-type-options", "cache-control", "x-frame-options", "referrer-policy"];
    assert.deepEqual(
      names.map((name) => headers.get(name)),
      ["nosniff", "no-store", "DENY", "no-referrer"],
      `${status}`,
    );
    assert.equal(headers.get("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    // Over plain HTTP it would mean nothing.
    assert.equal(headers.get("strict-transport-security"), null);
  }
});

test("pages of allowed origins may call, without credentials; others hear nothing that would allow it", async () => {
  const preflight = (origin: string, path = TRANSFERS) =>
    send("OPTIONS", path, { origin, "access-control-request-method": "POST" });
  const seenBefore = gateway.seen.length;
  for (const path of [TRANSFERS, ACCOUNT, "/v1/history/entries"]) {
    const { status, headers } = await preflight(OURS, path);
    assert.deepEqual([status, headers.get("access-control-allow-origin")], [200, OURS]);
    assert.match(headers.get("access-control-allow-headers") ?? "", /authorization.*idempotency-key/);
    assert.equal(headers.get("access-control-allow-credentials"), null);
  }
  const others = ["https://evil.example.com", `${OURS}.evil.example.com`, "http://pay.example.com", "null", "*"];
  for (const origin of others) {
    const { status, headers } = await preflight(origin);
    assert.deepEqual([status, headers.get("access-control-allow-origin")], [200, null], origin);
  }
  assert.equal(gateway.seen.length, seenBefore, "a preflight reached the service");
  for (const origin of others) {
    const { headers } = await send("GET", ACCOUNT, { origin });
    assert.equal(headers.get("access-control-allow-origin"), null, origin);
  }
  const answer = await send("GET", ACCOUNT, { origin: OURS });
  assert.deepEqual([answer.status, answer.headers.get("access-control-allow-origin")], [200, OURS]);
  assert.match(answer.headers.get("access-control-expose-headers") ?? "", /retry-after.*x-ledger-position/);
  const refused = await send("POST", TRANSFERS, { origin: OURS }, "{");
  assert.deepEqual([refused.status, refused.headers.get("access-control-allow-origin")], [400, OURS]);
});

test("without a list no page may call", async () => {
  const closed = await startGateway();
  try {
    const headers = { origin: OURS, "access-control-request-method": "POST" };
    const answer = parseRaw(await sendRaw(requestText("OPTIONS", TRANSFERS, headers), closed.url));
    assert.equal(answer.headers.get("access-control-allow-origin"), null);
    assert.equal(closed.seen.length, 0);
  } finally {
    closed.stop();
  }
});

test("OPTIONS that is no preflight is a method that is not there", async () => {
  for (const headers of [{}, { origin: OURS }, { "access-control-request-method": "POST" }]) {
    assert.equal(errorOf(await send("OPTIONS", TRANSFERS, headers)).reason, "METHOD_NOT_ALLOWED");
  }
});

test("a tunnel or another protocol is refused at once, over either HTTP", async () => {
  const upgrade = { connection: "upgrade", upgrade: "websocket" };
  const requests = [
    () => raw("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n"),
    () => sendHttp2({ ":method": "CONNECT", ":authority": "example.com:443" }),
    () => send("GET", ACCOUNT, upgrade),
    () => send("GET", "/nothing", upgrade),
  ];
  for (const request of requests) {
    const begin = performance.now();
    const { status, reason } = errorOf(await request());
    assert.deepEqual([status, reason], [403, "UPGRADE_REFUSED"]);
    assert.ok(performance.now() - begin < REFUSED_AT_ONCE_MS);
  }
});

test("a header that decides something is taken once, or not at all", async () => {
  const seenBefore = gateway.seen.length;
  const head = `POST ${TRANSFERS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n`;
  const twice: [lines: string, status: number][] = [
    ["idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: 2\r\n", 400],
    ["idempotency-key: a\r\nIdempotency-Key: a\r\ncontent-length: 2\r\n", 400],
    ["x-read-after: a\r\nx-read-after: b\r\ncontent-length: 2\r\n", 400],
    ["host: b\r\ncontent-length: 2\r\n", 400],
    ["content-length: 2\r\ncontent-length: 3\r\n", 400],
    ["content-length: 2, 3\r\n", 400],
    ["content-length: 2\r\ntransfer-encoding: chunked\r\n", 400],
    ["transfer-encoding: identity, chunked\r\n", 501],
    ["content-type: text/plain\r\ncontent-length: 2\r\n", 415],
    ["content-length : 2\r\n", 400],
    ["content-length: +2\r\n", 400],
  ];
  for (const [lines, expected] of twice) {
    const { status } = errorOf(await raw(`${head}${lines}\r\n{}`));
    assert.equal(status, expected, lines);
  }
  assert.equal(gateway.seen.length, seenBefore);
});

test("a misspelt header that would be passed over is named, over either HTTP", async () => {
  for (const answer of [
    await send("GET", ACCOUNT, { idempotency_key: "k" }),
    await sendHttp2({ ":path": ACCOUNT, idempotency_key: "k" }),
  ]) {
    const { status, reason, message } = errorOf(answer);
    assert.deepEqual([status, reason], [400, "MALFORMED_REQUEST"]);
    assert.match(message, /did you mean Idempotency-Key\?/);
  }
});

test("over HTTP/2 too, headers are bounded: what is too large ends its own stream", async () => {
  await assert.rejects(sendHttp2({ ":path": ACCOUNT, big: "x".repeat(40_000) }), { code: "ERR_HTTP2_STREAM_ERROR" });
  const many = Object.fromEntries(Array.from({ length: 120 }, (_, index) => [`h-${index}`, "1"]));
  await assert.rejects(sendHttp2({ ":path": ACCOUNT, ...many }), { code: "ERR_HTTP2_STREAM_ERROR" });
  assert.equal((await sendHttp2({ ":path": ACCOUNT })).status, 200);
});

test("the address that services see is the connection's, whatever the headers say", async () => {
  const forged = {
    "x-forwarded-for": "203.0.113.9",
    "x-envoy-external-address": "203.0.113.9",
    "x-envoy-anything": "1",
    "x-forwarded-host": "evil.example.com",
    "x-forwarded-proto": "https",
    "x-real-ip": "203.0.113.9",
    forwarded: "for=203.0.113.9",
    "x-ledgermesh-user": "user_1",
    tracestate: "a=b",
    baggage: "role=operator",
  };
  assert.equal((await send("GET", ACCOUNT, forged)).status, 200);
  const { headers = {} } = gateway.seen.at(-1) ?? {};
  assert.equal(headers["x-envoy-external-address"], "127.0.0.1");
  assert.equal(headers["x-forwarded-proto"], "http");
  assert.doesNotMatch(JSON.stringify(headers), /203\.0\.113\.9|evil|x-envoy-anything|user_1|baggage|tracestate/);
});
