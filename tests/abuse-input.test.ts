import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Operation, operations, requestOf, resolved, type Schema, sampleOf } from "#tests/openapi-requests.ts";
import { parseRaw, requestText, sendRaw } from "#tests/raw-http.ts";
import { consoleToken, errorOf, type RestAnswer, rest } from "#tests/rest.ts";
import {
  newKey,
  newOwner,
  openFunded,
  pidOf,
  postgres,
  readAccount,
  restUrl,
  shardNumbers,
  stack,
} from "#tests/stack.ts";
import { signIn, signUp } from "#tests/users.ts";

/** What a stranger with a token sends to every operation of the running system to break it, and what exactly they hear. */

const [INVALID_ARGUMENT, NOT_FOUND] = [3, 5];
const KIB = 1024;
const LEDGER = `${restUrl}/v1/ledger`;
/** Nothing that was made up may take longer: it is refused, not worked on. */
const REFUSED_WITHIN_MS = 5_000;
const withBody = operations.filter(({ body }) => body !== undefined);
const isBatch = ({ id }: Operation) => id.startsWith("Batch");

let victim = { accountId: "", ownerId: "" };
let asUser = "";

before(async () => {
  victim = await openFunded(1_000n);
  // Not the password that the made-up requests have: none of them closes the user or changes the password.
  const password = "another sound password";
  asUser = (await signIn(await signUp({ password }), password)).accessToken;
});

/** Somebody whom the operation admits: what is refused is the request. */
const tokenFor = async ({ roles }: Operation) => (roles.includes("SERVICE") ? consoleToken() : asUser);

/** Status, code and reason of how an operation refuses a body. */
async function refusalOf(operation: Operation, body: string, headers: Record<string, string> = {}) {
  const { url, request } = requestOf(operation, { body });
  const startMs = performance.now();
  const answer = await rest(url, {
    ...request,
    token: await tokenFor(operation),
    headers: { ...request.headers, ...headers },
  });
  assert.ok(performance.now() - startMs < REFUSED_WITHIN_MS, `${operation.id} took its time`);
  const { status, code, reason } = errorOf(answer);
  return [status, code, reason];
}

const sampleBody = ({ body }: Operation) => sampleOf(body as Schema, "") as Record<string, unknown>;

test("a body that does not say that it is JSON is refused by every operation", async () => {
  assert.ok(withBody.length > 20);
  const types = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/json",
    "application/xml",
  ];
  for (const operation of withBody) {
    for (const type of types) {
      const refusal = await refusalOf(operation, JSON.stringify(sampleBody(operation)), { "content-type": type });
      assert.deepEqual(refusal, [415, INVALID_ARGUMENT, "UNSUPPORTED_MEDIA_TYPE"], `${operation.id} ${type}`);
    }
  }
});

test("a body of a megabyte is refused by every operation that is no batch, and one of nine by those that are", async () => {
  for (const operation of withBody) {
    const body = JSON.stringify({ memo: "x".repeat((isBatch(operation) ? 9 * KIB : KIB) * KIB) });
    assert.deepEqual(await refusalOf(operation, body), [413, INVALID_ARGUMENT, "BODY_TOO_LARGE"], operation.id);
  }
});

test("JSON nested ten thousand deep is refused by every operation, wherever it stands", async () => {
  const deep = (open: string, close: string) => `${open.repeat(10_000)}${close.repeat(10_000)}`;
  const objects = `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`;
  for (const operation of withBody) {
    const [name = "a"] = Object.keys(operation.body?.properties ?? {});
    for (const body of [deep("[", "]"), `{"${name}":${deep("[", "]")}}`, objects, `{"${name}":${objects}}`]) {
      const [status, code] = await refusalOf(operation, body);
      assert.deepEqual([status, code], [400, INVALID_ARGUMENT], operation.id);
    }
  }
});

test("a field that nobody knows, or that stands twice, is refused by every operation", async () => {
  for (const operation of withBody) {
    const body = sampleBody(operation);
    for (const field of [
      "role",
      "status",
      "balance",
      "posted_minor_units",
      "owner",
      "caller",
      "is_admin",
      "@type",
      "$where",
    ]) {
      if (operation.body?.properties?.[field] !== undefined) continue;
      const refusal = await refusalOf(operation, JSON.stringify({ ...body, [field]: "OPERATOR" }));
      assert.deepEqual(refusal, [400, INVALID_ARGUMENT, "UNKNOWN_FIELD"], `${operation.id} ${field}`);
    }
    const [name = ""] = Object.keys(operation.body?.properties ?? {});
    const value = JSON.stringify(sampleOf(operation.body?.properties?.[name] ?? {}, name));
    const twice = `{"${name}":${value},"${name}":${value}}`;
    assert.deepEqual(await refusalOf(operation, twice), [400, INVALID_ARGUMENT, "DUPLICATE_FIELD"], operation.id);
  }
});

/** What would do something if it were ever put into SQL, into a query of Elasticsearch, a path, a template or a log line. */
const INJECTIONS = [
  "' or '1'='1",
  "'; drop table ledger.accounts; --",
  "\\'; select pg_sleep(10); --",
  "1) union select rolpassword from pg_authid --",
  "$1",
  "%' escape '!",
  '{"match_all":{}}',
  '"}},{"match_all":{}}',
  "* OR _exists_:account_id",
  "account_id:* /.*/",
  "../../../../etc/passwd",
  "%2e%2e%2f",
  "$\u007bjndi:ldap://127.0.0.1/a}",
  "{{7*7}}",
  "<script>alert(1)</script>",
  "a\r\nset-cookie: x=1",
  "a\u0000b",
  "\u202eksam\ufeff",
  "__proto__",
];

/** Each string of a schema, at any depth, as a body that has the text there. */
function bodiesWith(schema: Schema, text: string): [field: string, body: Record<string, unknown>][] {
  const base = sampleOf(schema, "") as Record<string, unknown>;
  return Object.entries(schema.properties ?? {}).flatMap(([name, given]): [string, Record<string, unknown>][] => {
    const inner = resolved(given);
    const element = inner.items && resolved(inner.items);
    if (inner.type === "string") return [[name, { ...base, [name]: text }]];
    if (inner.type === "object" && inner.properties === undefined)
      return [[name, { ...base, [name]: { [text]: text } }]];
    const [within, put] =
      element === undefined ? [inner, (value: unknown) => value] : [element, (value: unknown) => [value]];
    return bodiesWith(within, text).map(([field, value]) => [`${name}.${field}`, { ...base, [name]: put(value) }]);
  });
}

/** What an error of Postgres, of Elasticsearch or of our code would look like. */
const LEAKS = /syntax error|relation "|invalid input|SQLSTATE|_exception|\.ts:\d|node_modules/i;

/** How many tables and rows there are of what an injection could be after. */
async function inventory(): Promise<unknown> {
  const ofShards = shardNumbers.map(async (shard) => {
    const tables = await postgres(shard).query(
      "select count(*) from pg_tables where schemaname in ('ledger', 'identity')",
    );
    const roles = await postgres(shard).query(
      "select count(*), string_agg(rolname, ',' order by rolname) from pg_roles",
    );
    return [tables.rows, roles.rows];
  });
  return Promise.all(ofShards);
}

test("text that would be code elsewhere is only text, in every string of every operation", async () => {
  const before = await inventory();
  const pids = ["ledger", "reporting", "identity", "gateway"].map(pidOf);
  for (const operation of operations) {
    const token = await tokenFor(operation);
    for (const text of INJECTIONS) {
      const inParameters = operation.parameters
        .filter((parameter) => parameter.in !== "header" && resolved(parameter.schema).type === "string")
        .map(({ name }) => [name, requestOf(operation, { parameters: { [name]: text } })] as const);
      const inBody = operation.body === undefined ? [] : bodiesWith(operation.body, text);
      const sent = [...inParameters, ...inBody.map(([name, body]) => [name, requestOf(operation, { body })] as const)];
      const answers = await Promise.all(
        sent.map(async ([name, { url, request }]) => {
          const startMs = performance.now();
          return [name, await rest(url, { ...request, token }), performance.now() - startMs] as const;
        }),
      );
      for (const [name, answer, tookMs] of answers) {
        const where = `${operation.id} ${name} ${text}: ${answer.status} ${answer.text.slice(0, 300)}`;
        assert.ok(answer.status < 500 && tookMs < REFUSED_WITHIN_MS, where);
        assert.equal(answer.headers.get("set-cookie"), null, where);
        if (answer.status < 400) continue;
        errorOf(answer);
        assert.doesNotMatch(answer.text, LEAKS, where);
      }
    }
  }
  assert.deepEqual(await inventory(), before);
  assert.deepEqual(["ledger", "reporting", "identity", "gateway"].map(pidOf), pids);
  assert.equal((await readAccount(victim.accountId)).postedMinorUnits, 1_000n);
});

test("a filter that would find everything finds nothing", async () => {
  const lists: readonly string[] = [
    `${LEDGER}/accounts?owner_id=${newOwner()}&reference=`,
    `${LEDGER}/accounts?reference=`,
  ];
  for (const list of lists) {
    for (const text of ["' or '1'='1", "%", "*", "_", "system:%"]) {
      const answer = await rest(list + encodeURIComponent(text));
      if (answer.status === 200) {
        const { accounts } = JSON.parse(answer.text) as { accounts: { reference: string }[] };
        // The test before has opened some whose name it is.
        assert.ok(accounts.length <= 1 && accounts.every(({ reference }) => reference === text), list + text);
      } else {
        assert.deepEqual([errorOf(answer).status, errorOf(answer).fields], [400, ["reference"]]);
      }
    }
  }
});

test("a page of a billion is refused by every list, and so is a token that was made up", async () => {
  const lists = operations.filter(({ parameters }) => parameters.some(({ name }) => name === "page_size"));
  assert.ok(lists.length >= 4);
  const ask = async (operation: Operation, parameters: Record<string, string>): Promise<RestAnswer> => {
    const named = operation.id === "ListAccounts" ? { owner_id: victim.ownerId } : { account_id: victim.accountId };
    const known = Object.keys(named)[0] ?? "";
    const takes = operation.parameters.some(({ name }) => name === known);
    const { url, request } = requestOf(operation, { parameters: { ...(takes && named), ...parameters } });
    return rest(url, { ...request, token: await tokenFor(operation) });
  };
  const cursor = Buffer.from(JSON.stringify({ s: "x", c: ["infinity", "0"], e: 9e15 })).toString("base64url");
  for (const operation of lists) {
    for (const size of ["1000000000", "501", "-1", "9223372036854775807", "1e9", "0x10"]) {
      const { status, code, reason, fields } = errorOf(await ask(operation, { page_size: size }));
      const expected = [400, INVALID_ARGUMENT, "MALFORMED_REQUEST", ["page_size"]];
      assert.deepEqual([status, code, reason, fields], expected, `${operation.id} ${size}`);
    }
    for (const token of ["x", cursor, `${cursor}.`, `${cursor}.AAAAAAAAAAAAAAAAAAAAAA`, "a.b.c", "x".repeat(5_000)]) {
      const { status, code, reason, fields } = errorOf(await ask(operation, { page_token: token }));
      const expected = [400, INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", ["page_token"]];
      assert.deepEqual([status, code, reason, fields], expected, `${operation.id} ${token.slice(0, 40)}`);
    }
  }
});

test("nothing of the inside is reached through the edge: internal methods, reflection, health, metrics, admin", async () => {
  const token = await consoleToken();
  const paths = [
    "/ledgermesh.identity.v1.IdentityService/ListRevokedSessions",
    "/ledgermesh.identity.v1.IdentityService/GrantRole",
    "/ledgermesh.ledger.v1.LedgerService/CreateTransfer",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/v1/revoked_sessions",
    "/healthz",
    "/metrics",
    "/ready",
    "/stats",
    "/stats/prometheus",
    "/config_dump",
    "/certs",
    "/clusters",
    "/quitquitquit",
    "/server_info",
    "/debug/pprof",
    "/.env",
    "/.git/config",
    "/docs/../config_dump",
    "/v1/../config_dump",
  ];
  for (const path of paths) {
    for (const method of ["GET", "POST"]) {
      for (const type of ["application/json", "application/grpc", "application/grpc-web+proto"]) {
        const headers = { authorization: `Bearer ${token}`, "content-type": type, te: "trailers" };
        const raw = parseRaw(
          await sendRaw(requestText(method, path, headers, method === "POST" ? "{}" : undefined), restUrl),
        );
        const { status, code, reason } = errorOf(raw);
        assert.deepEqual([status, code, reason], [404, NOT_FOUND, "ROUTE_NOT_FOUND"], `${method} ${path} ${type}`);
      }
    }
  }
  assert.equal((await fetch(`${stack.gatewayAdmin}/ready`)).status, 200);
});

test("a header that decides something and comes twice is refused, not chosen from", async () => {
  const body = JSON.stringify({ currency: "EUR", kind: "WALLET" });
  const token = await consoleToken();
  const send = (lines: readonly string[]) => {
    const own = [`host: a`, `content-type: application/json`, `content-length: ${body.length}`, ...lines];
    return sendRaw(`POST /v1/ledger/accounts HTTP/1.1\r\n${own.join("\r\n")}\r\n\r\n${body}`, restUrl);
  };
  const authorization = `authorization: Bearer ${token}`;
  const cases: [lines: readonly string[], status: number, reason: string][] = [
    [[authorization, `authorization: Bearer x`, `idempotency-key: ${newKey()}`], 401, "TOKEN_INVALID"],
    [[authorization, `idempotency-key: ${newKey()}`, `idempotency-key: ${newKey()}`], 400, "MALFORMED_REQUEST"],
    [[authorization, `idempotency-key: ${newKey()}`, "content-type: text/plain"], 415, "UNSUPPORTED_MEDIA_TYPE"],
    [[authorization, `idempotency-key: ${newKey()}`, "content-length: 7"], 400, "MALFORMED_REQUEST"],
    [[authorization, `idempotency-key: ${newKey()}`, "transfer-encoding: chunked"], 400, "MALFORMED_REQUEST"],
    [[authorization, `idempotency-key: ${newKey()}`, "host: b"], 400, "MALFORMED_REQUEST"],
  ];
  for (const [lines, status, reason] of cases) {
    const error = errorOf(parseRaw(await send(lines)));
    assert.deepEqual([error.status, error.reason], [status, reason], lines.slice(1).join(" | "));
  }
});
