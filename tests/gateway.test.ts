import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Refusal } from "#lib/refusal.ts";
import type { BatchCreateTransfersRequest, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { BatchCreateTransfersResponse } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type GatewayProcess, type StandIn, startGateway } from "#tests/gateway-process.ts";
import { parseRaw, sendRaw } from "#tests/raw-http.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { restUrl } from "#tests/stack.ts";

/**
 * What the gateway promises for itself: which paths there are, limits, headers, and what a caller hears when a service is
 * late, gone or too busy. On an Envoy of its own, in front of stand-ins that do as the memo of a transfer says.
 */

const TRANSFERS = "/v1/ledger/transfers";
const [INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, INTERNAL, UNAVAILABLE] = [3, 4, 5, 12, 13, 14];
const SLOW_MS = 1_000;
let gateway: GatewayProcess;

const standIn: StandIn = async ({ method, request }) => {
  if (method === "BatchCreateTransfers") {
    const results = (request as BatchCreateTransfersRequest).transfers.map(() => ({ replayed: true }));
    return BatchCreateTransfersResponse.fromPartial({ results });
  }
  switch ((request as CreateTransferRequest).memo) {
    case "slow":
      await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
      return undefined;
    case "busy":
      throw new Refusal("RESOURCE_EXHAUSTED", "TOO_MANY_COMMANDS", "Wait.", { retryAfterMs: 2_100 });
    case "away":
      throw new Refusal("UNAVAILABLE", "SHARD_UNAVAILABLE", "Wait.");
    case "defect":
      throw new Error("a defect");
    default:
      return undefined;
  }
};

/** Other RPCs, gRPC's own services, and what Envoy's admin and the services answer on other ports. */
const NOT_FOR_STRANGERS = [
  "/ledgermesh.identity.v1.IdentityService/ListRevokedSessions",
  "/ledgermesh.identity.v1.IdentityService/GetJwks",
  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
  "/grpc.health.v1.Health/Check",
  "/metrics",
  "/healthz",
  "/stats",
  "/config_dump",
  "/server_info",
  "/quitquitquit",
  "/v1/admin",
];

const send = (memo: string, to = gateway) => rest(to.url + TRANSFERS, { body: JSON.stringify({ memo }) });
const get = (path: string, headers: Record<string, string> = {}) => rest(gateway.url + path, { headers });

const raw = async (text: string, url = gateway.url) => parseRaw(await sendRaw(text, url));

before(async () => {
  gateway = await startGateway(standIn);
});

after(() => gateway.stop());

test("the gateway of the stack answers as itself, and only what it was told to", async () => {
  const { headers, status } = await rest(`${restUrl}/`);
  assert.equal(status, 404);
  assert.equal(headers.get("server"), "ledgermesh");
  assert.match(headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
  for (const path of ["/ledgermesh.ledger.v1.LedgerService/GetAccount", ...NOT_FOR_STRANGERS]) {
    const error = errorOf(await rest(restUrl + path, { body: "{}" }));
    assert.deepEqual([error.status, error.code, error.reason], [404, NOT_FOUND, "ROUTE_NOT_FOUND"]);
  }
});

test("a path means one thing: dots and letters are resolved, other spellings are not there", async () => {
  const seenAs = async (path: string) => {
    const { length } = gateway.seen;
    const answer = await raw(`GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`);
    const seen = gateway.seen[length]?.request as { accountId: string } | undefined;
    return answer.status === 200 ? seen?.accountId : [answer.status, errorOf(answer).reason];
  };
  assert.equal(await seenAs("/v1/ledger/accounts/acct_1"), "acct_1");
  assert.equal(await seenAs("/v1/ledger/../ledger/./accounts/acct_1"), "acct_1");
  assert.equal(await seenAs("/v1/ledger/%61ccounts/acct%5F1"), "acct_1");
  for (const path of ["/v1/ledger/accounts/acct_1/", "//v1/ledger/accounts/acct_1", "/v1/ledger//accounts/acct_1"]) {
    assert.deepEqual(await seenAs(path), [404, "ROUTE_NOT_FOUND"], path);
  }
  for (const path of [
    "/../../etc",
    "/v1/ledger/accounts/a:b",
    "/V1/ledger/accounts/a",
    "/v1/ledger/accounts%3Abatch",
  ]) {
    assert.deepEqual(await seenAs(path), [404, "ROUTE_NOT_FOUND"], path);
  }
  for (const path of ["/v1/ledger/accounts/a%2Fb", "/v1/ledger/accounts/a%5Cb", "/v1/ledger/accounts/%ff", "/v1/%zz"]) {
    const [status, reason] = (await seenAs(path)) as [number, string];
    assert.ok([400, 404].includes(status) && ["MALFORMED_REQUEST", "ROUTE_NOT_FOUND"].includes(reason), path);
  }
});

test("another method is refused with the one there is", async () => {
  const cases: [method: string, path: string, allow: string][] = [
    ["GET", TRANSFERS, "POST"],
    ["DELETE", TRANSFERS, "POST"],
    ["POST", "/v1/ledger/accounts/acct_1", "GET"],
    ["OPTIONS", "/v1/history/entries", "GET"],
  ];
  for (const [method, path, allow] of cases) {
    const answer = await rest(gateway.url + path, { method });
    const error = errorOf(answer);
    assert.deepEqual([error.status, error.code, error.reason], [405, UNIMPLEMENTED, "METHOD_NOT_ALLOWED"]);
    assert.equal(answer.headers.get("allow"), allow);
  }
});

test("gRPC is not spoken to strangers, whatever path they take", async () => {
  const seenBefore = gateway.seen.length;
  for (const path of ["/ledgermesh.ledger.v1.LedgerService/CreateTransfer", TRANSFERS, "/v1/ledger/accounts/acct_1"]) {
    for (const contentType of ["application/grpc", "application/grpc+proto", "Application/GRPC-web"]) {
      const method = path.includes("acct_1") ? "GET" : "POST";
      const headers = { "content-type": contentType };
      const body = method === "GET" ? {} : { body: "\0\0\0\0\0" };
      const error = errorOf(await rest(gateway.url + path, { method, headers, ...body }));
      assert.deepEqual([error.status, error.reason], [404, "ROUTE_NOT_FOUND"], `${path} ${contentType}`);
    }
  }
  assert.equal(gateway.seen.length, seenBefore);
});

test("a command needs a JSON body that says it is JSON, and a query takes none", async () => {
  const refused = async (request: Parameters<typeof rest>[1], path = TRANSFERS) => {
    const error = errorOf(await rest(gateway.url + path, request));
    return [error.status, error.code, error.reason];
  };
  for (const headers of [
    { "content-type": "text/plain" },
    { "content-type": "application/x-www-form-urlencoded" },
    { "content-type": "application/json; charset=latin1" },
    { "content-type": "application/jsonp" },
    { "content-type": "application/json", "content-encoding": "gzip" },
  ]) {
    assert.deepEqual(await refused({ body: "{}", headers }), [415, INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE"]);
  }
  const headers = { "content-type": 'Application/JSON ; charset="UTF-8"' };
  assert.equal((await rest(gateway.url + TRANSFERS, { body: "{}", headers })).status, 200);

  assert.deepEqual(await refused({ method: "POST" }), [400, INVALID_ARGUMENT, "MALFORMED_REQUEST"]);
  const query =
    "GET /v1/ledger/accounts/acct_1 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
  assert.equal((await raw(query)).status, 400);
});

test("a body is bounded by its route, and refused cleanly above", async () => {
  const body = (bytes: number) => `{"memo":"${"x".repeat(bytes - 11)}"}`;
  const batch = (bytes: number) => `{"transfers":[${body(bytes - 16)}]}`;
  const cases: [path: string, body: string, status: number][] = [
    [TRANSFERS, body(64 * 1024), 200],
    [TRANSFERS, body(64 * 1024 + 1), 413],
    [`${TRANSFERS}:batch`, batch(8 * 1024 * 1024 - 1024), 200],
    [`${TRANSFERS}:batch`, batch(8 * 1024 * 1024 + 1), 413],
  ];
  for (const [path, text, status] of cases) {
    const answer = await rest(gateway.url + path, { body: text });
    assert.equal(answer.status, status);
    if (status === 413) assert.equal(errorOf(answer).reason, "BODY_TOO_LARGE");
  }
});

test("a full batch and its answer pass", async () => {
  const transfers = Array.from({ length: 10_000 }, (_, index) => ({
    memo: "x".repeat(140),
    idempotency_key: `${index}`,
  }));
  const answer = await rest(`${gateway.url}${TRANSFERS}:batch`, { body: JSON.stringify({ transfers }) });
  assert.equal(answer.status, 200);
  assert.equal((JSON.parse(answer.text) as { results: unknown[] }).results.length, 10_000);
});

test("headers are bounded in size and number", async () => {
  const head = "GET /v1/ledger/accounts/acct_1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
  const many = (count: number) => Array.from({ length: count }, (_, index) => `h-${index}: 1\r\n`).join("");
  assert.equal((await raw(`${head}${many(90)}\r\n`)).status, 200);
  for (const tooMuch of [many(120), `big: ${"x".repeat(40_000)}\r\n`]) {
    const { status, code, reason } = errorOf(await raw(`${head}${tooMuch}\r\n`));
    assert.deepEqual([status, code, reason], [431, INVALID_ARGUMENT, "HEADERS_TOO_LARGE"]);
  }
});

test("what is no HTTP is refused in the same shape", async () => {
  const requests = [
    "NONSENSE\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    `POST ${TRANSFERS} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    "GET /v1/ledger/accounts/acct_1 HTTP/1.1\r\nhost: a\r\nidempotency_key: k\r\n\r\n",
  ];
  for (const request of requests) {
    const { status, code, reason } = errorOf(await raw(request));
    assert.ok(status >= 400 && status < 500);
    assert.deepEqual([code, reason], [INVALID_ARGUMENT, "MALFORMED_REQUEST"], request);
  }
});

test("a caller's headers reach the service, but not those that only the gateway may set", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const passed = { "idempotency-key": "key-1", "x-read-after": "token", traceparent };
  const forged = {
    "x-ledgermesh-caller": "root",
    "x-caller": "root",
    "x-caller-role": "operator",
    "x-envoy-external-address": "192.0.2.1",
    "x-envoy-internal": "true",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "grpc-timeout": "1n",
    "grpc-encoding": "gzip",
    "x-request-id": "mine",
  };
  assert.equal((await get("/v1/ledger/accounts/acct_1", { ...passed, ...forged })).status, 200);
  const headers = gateway.seen.at(-1)?.headers ?? {};
  assert.deepEqual([headers["idempotency-key"], headers["x-read-after"]], ["key-1", "token"]);
  assert.equal(headers.traceparent, traceparent);
  // How long the route waits.
  assert.equal(headers["grpc-timeout"], "6S");
  assert.equal(headers["x-envoy-external-address"], "127.0.0.1");
  assert.match(String(headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  for (const name of Object.keys(forged)) {
    if (["x-envoy-external-address", "x-request-id", "grpc-timeout"].includes(name)) continue;
    assert.equal(headers[name], undefined, name);
  }
});

test("what may be tried again says when, and every error has a reason", async () => {
  const busy = await send("busy");
  assert.equal(busy.headers.get("retry-after"), "3");
  assert.deepEqual([errorOf(busy).status, errorOf(busy).reason], [429, "TOO_MANY_COMMANDS"]);
  const away = await send("away");
  assert.equal(away.headers.get("retry-after"), "1");
  assert.deepEqual([errorOf(away).status, errorOf(away).reason], [503, "SHARD_UNAVAILABLE"]);
  const defect = errorOf(await send("defect"));
  assert.deepEqual([defect.status, defect.code, defect.reason], [500, INTERNAL, "INTERNAL"]);
  assert.doesNotMatch(defect.message, /a defect/);
});

test("a service that is late: the outcome is not known", async () => {
  const impatient = await startGateway(standIn, (config) => config.replaceAll('"timeout": "6s"', '"timeout": "0.2s"'));
  try {
    const error = errorOf(await send("slow", impatient));
    assert.deepEqual([error.status, error.code, error.reason], [504, DEADLINE_EXCEEDED, "GATEWAY_TIMEOUT"]);
    assert.match(error.message, /not known; repeat it with the same idempotency key/);
  } finally {
    impatient.stop();
  }
});

test("a service that goes away while it works: the outcome is not known; afterwards: nothing has happened", async () => {
  const doomed = await startGateway(standIn);
  try {
    const pending = send("slow", doomed);
    while (doomed.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    doomed.breakServices();
    const lost = errorOf(await pending);
    assert.deepEqual([lost.status, lost.reason], [502, "OUTCOME_UNKNOWN"]);
    assert.match(lost.message, /not known; repeat it with the same idempotency key/);
    const gone = errorOf(await send("", doomed));
    assert.deepEqual([gone.status, gone.code, gone.reason], [503, UNAVAILABLE, "SERVICE_UNAVAILABLE"]);
    assert.match(gone.message, /nothing has happened/);
  } finally {
    doomed.stop();
  }
});

test("calls beyond the bound are refused at once, and nothing of them happens", async () => {
  const narrow = await startGateway(standIn, (config) =>
    config
      .replaceAll(/"max_requests": \d+/g, '"max_requests": 2')
      .replaceAll(/"max_pending_requests": \d+/g, '"max_pending_requests": 2'),
  );
  try {
    const answers = await Promise.all(Array.from({ length: 20 }, () => send("slow", narrow)));
    const refused = answers.filter(({ status }) => status !== 200).map(errorOf);
    assert.ok(refused.length > 0);
    for (const { status, code, reason } of refused) {
      assert.deepEqual([status, code, reason], [503, UNAVAILABLE, "OVERLOADED"]);
    }
    assert.equal(narrow.seen.length, answers.length - refused.length);
  } finally {
    narrow.stop();
  }
});

test("a request that does not arrive is given up", async () => {
  const hasty = await startGateway(standIn, (config) =>
    config.replace('"request_timeout": "30s"', '"request_timeout": "0.3s"'),
  );
  try {
    const head = `POST ${TRANSFERS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`;
    const { status, code, reason } = errorOf(await raw(head, hasty.url));
    assert.deepEqual([status, code, reason], [408, DEADLINE_EXCEEDED, "REQUEST_TIMEOUT"]);
    assert.equal(hasty.seen.length, 0);
  } finally {
    hasty.stop();
  }
});

test("many callers at once are all answered", async () => {
  const answers = await Promise.all(Array.from({ length: 500 }, (_, index) => send(`memo ${index}`)));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
});
