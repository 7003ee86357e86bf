import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { after, before, test } from "node:test";
import { SignJWT, UnsecuredJWT } from "jose";
import type { GatewayConfig } from "#gateway/config.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER } from "#lib/access-token.ts";
import { DEVELOPMENT_KEY_ID } from "#lib/signing-keys.ts";
import { type GatewayProcess, type StandIn, startGateway } from "#tests/gateway-process.ts";
import { parseRaw, requestText, sendRaw } from "#tests/raw-http.ts";
import { errorOf, type RestAnswer, type RestRequest, rest } from "#tests/rest.ts";
import { eventually, restUrl } from "#tests/stack.ts";

/** Without a good access token nothing gets past the gateway but what the contract opens to anybody. */

const ACCOUNT = "/v1/ledger/accounts/acct_1";
const UNAUTHENTICATED = 16;
const development = generateKeyPairSync("ed25519");
const stranger = generateKeyPairSync("ed25519");
const developmentKey = pem(development.publicKey);
let gateway: GatewayProcess;

before(async () => {
  const { jwk } = published("identity");
  const standIn: StandIn = ({ method }) => Promise.resolve(method === "GetJwks" ? { keys: [jwk] } : undefined);
  gateway = await startGateway(standIn, undefined, { tokens: { issuer: TOKEN_ISSUER, developmentKey } });
  await eventually(async () => (await keyFetches(gateway, "success")) > 0, "it knows identity's keys", 5_000);
});

after(() => gateway.stop());

async function keyFetches({ adminUrl }: GatewayProcess, outcome: "success" | "failed"): Promise<number> {
  const stats = await (await fetch(`${adminUrl}/stats?filter=jwks_fetch_${outcome}`)).text();
  return Number(/jwks_fetch_\w+: (\d+)/.exec(stats)?.[1]);
}

function pem(key: KeyObject): string {
  return key.export({ type: "spki", format: "pem" }).toString();
}

interface TokenParts {
  readonly key?: KeyObject;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly issuer?: string;
  readonly audience?: string;
  /** In seconds from now. */
  readonly notBefore?: number;
  readonly expires?: number;
}

function tokenOf({ key, header, issuer, audience, notBefore = 0, expires = 600 }: TokenParts = {}): Promise<string> {
  const now = Math.trunc(Date.now() / 1000);
  return new SignJWT({ role: "SERVICE" })
    .setProtectedHeader({ alg: "EdDSA", kid: DEVELOPMENT_KEY_ID, ...header })
    .setSubject("service:test")
    .setIssuer(issuer ?? TOKEN_ISSUER)
    .setAudience(audience ?? TOKEN_AUDIENCE)
    .setIssuedAt(now)
    .setNotBefore(now + notBefore)
    .setExpirationTime(now + expires)
    .sign(key ?? development.privateKey);
}

const get = (authorization?: string, path = ACCOUNT): Promise<RestAnswer> =>
  rest(gateway.url + path, { token: null, headers: authorization === undefined ? {} : { authorization } });

async function refused(authorization: string | undefined, reason: string, name = ""): Promise<RestAnswer> {
  const seenBefore = gateway.seen.length;
  const answer = await get(authorization);
  const error = errorOf(answer);
  assert.deepEqual([error.status, error.code, error.reason], [401, UNAUTHENTICATED, reason], name);
  const challenge = reason === "TOKEN_REQUIRED" ? /^Bearer realm="ledgermesh"$/ : /^Bearer .*error="invalid_token"$/;
  assert.match(answer.headers.get("www-authenticate") ?? "", challenge);
  assert.equal(gateway.seen.length, seenBefore, "the call reached the service");
  return answer;
}

test("a good token goes through, and on to the service, again and again", async () => {
  const authorization = `Bearer ${await tokenOf()}`;
  for (let call = 0; call < 3; call += 1) {
    assert.equal((await get(authorization)).status, 200);
    assert.equal(gateway.seen.at(-1)?.headers.authorization, authorization);
  }
  assert.equal((await get(`bearer ${await tokenOf()}`)).status, 200);
});

test("without a token, everything that is not open is refused, and what is not there is not there", async () => {
  await refused(undefined, "TOKEN_REQUIRED");
  await refused("Basic dXNlcjpwYXNzd29yZA==", "TOKEN_REQUIRED");
  const command = errorOf(await rest(`${gateway.url}/v1/ledger/transfers`, { body: "{", token: null }));
  assert.deepEqual([command.status, command.reason], [401, "TOKEN_REQUIRED"]);
  assert.equal(errorOf(await get(undefined, "/v1/nothing")).reason, "ROUTE_NOT_FOUND");
  assert.equal(
    errorOf(await rest(`${gateway.url}${ACCOUNT}`, { method: "DELETE", token: null })).reason,
    "METHOD_NOT_ALLOWED",
  );
});

test("a token in a query or a cookie is none", async () => {
  const token = await tokenOf();
  const query = errorOf(await get(undefined, `${ACCOUNT}?access_token=${token}`));
  assert.equal(query.reason, "TOKEN_REQUIRED");
  const cookie = await rest(gateway.url + ACCOUNT, { token: null, headers: { cookie: `access_token=${token}` } });
  assert.equal(errorOf(cookie).reason, "TOKEN_REQUIRED");
});

test("what the contract opens to anybody needs no token, and a bad one does not shut it", async () => {
  const signUp = { email: "a@example.com" };
  for (const headers of [{}, { authorization: "Bearer x.y.z" }, { authorization: `Bearer ${await tokenOf()}` }]) {
    const answer = await rest(`${gateway.url}/v1/users`, { body: JSON.stringify(signUp), headers, token: null });
    assert.equal(answer.status, 200, answer.text);
  }
});

test("a forged token is refused, however it is forged", async () => {
  const forged: Record<string, string> = {
    "signed by a stranger": await tokenOf({ key: stranger.privateKey }),
    "of an unknown kid": await tokenOf({ header: { kid: "unknown" } }),
    "without a kid, by a stranger": await tokenOf({ key: stranger.privateKey, header: { kid: undefined } }),
    "that brings its key": await tokenOf({
      key: stranger.privateKey,
      header: { jwk: stranger.publicKey.export({ format: "jwk" }), kid: "stranger" },
    }),
    "that says where its key is": await tokenOf({
      key: stranger.privateKey,
      header: { jku: "https://evil.example.com/jwks.json", kid: "stranger" },
    }),
    "of another issuer": await tokenOf({ issuer: "https://evil.example.com" }),
    "for another audience": await tokenOf({ audience: "another" }),
    "that is not good yet": await tokenOf({ notBefore: 120 }),
    "with no signature": new UnsecuredJWT({ role: "OPERATOR" })
      .setIssuer(TOKEN_ISSUER)
      .setAudience(TOKEN_AUDIENCE)
      .setExpirationTime("10m")
      .encode(),
    "that never ends": await new SignJWT({ role: "OPERATOR" })
      .setProtectedHeader({ alg: "EdDSA", kid: DEVELOPMENT_KEY_ID })
      .setIssuer(TOKEN_ISSUER)
      .setAudience(TOKEN_AUDIENCE)
      .sign(development.privateKey),
    "by the public key as a password": await new SignJWT({ role: "OPERATOR" })
      .setProtectedHeader({ alg: "HS256", kid: DEVELOPMENT_KEY_ID })
      .setIssuer(TOKEN_ISSUER)
      .setAudience(TOKEN_AUDIENCE)
      .setExpirationTime("10m")
      .sign(Buffer.from(developmentKey)),
    "that is no token": "x",
    "of three empty parts": "..",
    "that is too long": "x".repeat(8_000),
  };
  const good = await tokenOf();
  const [head = "", , signature = ""] = good.split(".");
  const payload = Buffer.from(JSON.stringify({ role: "OPERATOR", iss: TOKEN_ISSUER, aud: TOKEN_AUDIENCE, exp: 9e9 }));
  forged["with another payload"] = [head, payload.toString("base64url"), signature].join(".");
  forged["with a changed alg"] = [
    base64url({ alg: "none", kid: DEVELOPMENT_KEY_ID }),
    ...good.split(".").slice(1),
  ].join(".");
  forged["twice in one header"] = `${good}, Bearer ${good}`;
  for (const [name, token] of Object.entries(forged)) await refused(`Bearer ${token}`, "TOKEN_INVALID", name);
});

function base64url(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

test("a token that is over is refused as such, so that a client knows to refresh it", async () => {
  await refused(`Bearer ${await tokenOf({ notBefore: -700, expires: -100 })}`, "TOKEN_EXPIRED");
});

test("two authorization headers are none", async () => {
  const authorization = `Bearer ${await tokenOf()}`;
  const request = requestText("GET", ACCOUNT, { authorization, Authorization: authorization });
  const { status, reason } = errorOf(parseRaw(await sendRaw(request, gateway.url)));
  assert.deepEqual([status, reason], [401, "TOKEN_INVALID"]);
});

test("the token is looked at before the body is", async () => {
  const head = requestText("POST", "/v1/ledger/transfers", {
    "content-length": "1000",
    "content-type": "application/json",
  });
  const begin = performance.now();
  const { status, reason } = errorOf(parseRaw(await sendRaw(head, gateway.url)));
  assert.deepEqual([status, reason], [401, "TOKEN_REQUIRED"]);
  assert.ok(performance.now() - begin < 1_000);
});

test("what else is wrong with a request that has a good token is not put down to the token", async () => {
  const keys = [published("identity").jwk];
  const standIn: StandIn = ({ method }) => Promise.resolve(method === "GetJwks" ? { keys } : undefined);
  const doomed = await startGateway(standIn, undefined, { tokens: { issuer: TOKEN_ISSUER, developmentKey } });
  try {
    await eventually(async () => (await keyFetches(doomed, "success")) > 0, "it knows identity's keys", 5_000);
    const reasonOf = async (path: string, request: RestRequest) =>
      errorOf(await rest(doomed.url + path, { ...request, token: await tokenOf() })).reason;
    const transfers = "/v1/ledger/transfers";
    assert.equal(await reasonOf(transfers, { body: `{"memo":"${"x".repeat(70_000)}"}` }), "BODY_TOO_LARGE");
    assert.equal(await reasonOf(transfers, { body: "{" }), "MALFORMED_JSON");
    assert.equal(await reasonOf(transfers, { method: "PUT" }), "METHOD_NOT_ALLOWED");
    doomed.breakServices();
    assert.equal(await reasonOf(transfers, { body: "{}" }), "SERVICE_UNAVAILABLE");
  } finally {
    doomed.stop();
  }
});

test("a page hears why it was refused, and its preflight needs no token", async () => {
  const origin = "https://pay.example.com";
  const settings = { tokens: { issuer: TOKEN_ISSUER, developmentKey }, allowedOrigins: [origin] };
  const open = await startGateway(undefined, undefined, settings);
  try {
    const preflight = requestText("OPTIONS", ACCOUNT, { origin, "access-control-request-method": "GET" });
    const allowed = parseRaw(await sendRaw(preflight, open.url));
    assert.deepEqual([allowed.status, allowed.headers.get("access-control-allow-origin")], [200, origin]);
    const answer = parseRaw(await sendRaw(requestText("GET", ACCOUNT, { origin }), open.url));
    assert.equal(errorOf(answer).reason, "TOKEN_REQUIRED");
    assert.equal(answer.headers.get("access-control-allow-origin"), origin);
  } finally {
    open.stop();
  }
});

/** A key as identity publishes it. */
function published(kid: string) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { x = "" } = publicKey.export({ format: "jwk" });
  return { privateKey, jwk: { kty: "OKP", crv: "Ed25519", x, kid, alg: "EdDSA", use: "sig" } };
}

/** A gateway that asks a stand-in for the keys every second, and takes no development tokens. */
function startWithKeys(keys: () => readonly object[], settings: Partial<GatewayConfig> = {}): Promise<GatewayProcess> {
  return startGateway(
    ({ method }) => Promise.resolve(method === "GetJwks" ? { keys: keys() } : undefined),
    (config) => config.replaceAll('"cache_duration": "60s"', '"cache_duration": "1s"'),
    { tokens: { issuer: TOKEN_ISSUER, developmentKey: undefined }, ...settings },
  );
}

test("keys are those that identity publishes, as they come and go", async () => {
  const [first, second] = [published("first"), published("second")];
  let keys = [first.jwk];
  const keyed = await startWithKeys(() => keys);
  const answerTo = async ({ privateKey: key, jwk: { kid } }: typeof first, id = kid) => {
    const headers = { authorization: `Bearer ${await tokenOf({ key, header: { kid: id } })}` };
    return rest(keyed.url + ACCOUNT, { headers });
  };
  const isAccepted = async (key: typeof first) => (await answerTo(key)).status === 200;
  try {
    await eventually(() => isAccepted(first), "the first key is known", 5_000);
    assert.equal(errorOf(await answerTo(second)).reason, "TOKEN_INVALID");
    assert.equal(errorOf(await answerTo(second, "first")).reason, "TOKEN_INVALID", "of another key's id");
    const byDeveloper = { authorization: `Bearer ${await tokenOf()}` };
    assert.equal(errorOf(await rest(keyed.url + ACCOUNT, { headers: byDeveloper })).reason, "TOKEN_INVALID");
    keys = [first.jwk, second.jwk];
    await eventually(() => isAccepted(second), "the second key is known", 5_000);
    assert.ok(await isAccepted(first), "both are good while one takes the place of the other");
    keys = [second.jwk];
    // A token of its own each time: one that was verified is remembered, and left to the services.
    await eventually(async () => !(await isAccepted(first)), "the first key is forgotten", 5_000);
    assert.equal(errorOf(await answerTo(first)).reason, "TOKEN_INVALID");
  } finally {
    keyed.stop();
  }
});

test("while identity is away the keys that it told last go on", async () => {
  const key = published("only");
  const keyed = await startWithKeys(() => [key.jwk]);
  const call = async () => {
    const authorization = `Bearer ${await tokenOf({ key: key.privateKey, header: { kid: "only" } })}`;
    return rest(keyed.url + ACCOUNT, { headers: { authorization } });
  };
  try {
    await eventually(async () => (await call()).status === 200, "the key is known", 5_000);
    // What a worker fetches for itself at the very beginning is forgotten after a minute, unless that minute brings it again.
    const before = await keyFetches(keyed, "success");
    await eventually(async () => (await keyFetches(keyed, "success")) >= before + 2, "it was asked again", 10_000);
    keyed.breakServices();
    const failedBefore = await keyFetches(keyed, "failed");
    const isAskedInVain = async () => (await keyFetches(keyed, "failed")) >= failedBefore + 3;
    await eventually(isAskedInVain, "it was asked in vain, for longer than the keys are kept", 10_000);
    // The ledger is away as well: the token was accepted, and nobody there to take the call.
    assert.equal(errorOf(await call()).reason, "SERVICE_UNAVAILABLE");
  } finally {
    keyed.stop();
  }
});

test("when the keys were never told, nobody's token is called bad", async () => {
  const key = published("only");
  // Nothing listens there.
  const keyed = await startWithKeys(() => [], { identity: { host: "127.0.0.1", port: 9 } });
  try {
    const authorization = `Bearer ${await tokenOf({ key: key.privateKey, header: { kid: "only" } })}`;
    const { status, reason } = errorOf(await rest(keyed.url + ACCOUNT, { headers: { authorization } }));
    assert.deepEqual([status, reason], [503, "SIGNING_KEYS_UNKNOWN"]);
    assert.equal(errorOf(await rest(keyed.url + ACCOUNT, { token: null })).reason, "TOKEN_REQUIRED");
  } finally {
    keyed.stop();
  }
});

test("the door to the keys leads to nothing else", async () => {
  const key = published("only");
  const keyed = await startWithKeys(() => [key.jwk]);
  try {
    const answer = await rest(`${keyed.keysUrl}/.well-known/jwks.json`);
    assert.deepEqual([answer.status, JSON.parse(answer.text)], [200, { keys: [key.jwk] }]);
    const seenBefore = keyed.seen.filter(({ method }) => method !== "GetJwks").length;
    const others = [
      "/v1/users",
      ACCOUNT,
      "/",
      "/.well-known/jwks.json/",
      "/ledgermesh.identity.v1.IdentityService/GetJwks",
    ];
    for (const path of others) {
      for (const method of ["GET", "POST"]) {
        assert.equal((await rest(keyed.keysUrl + path, { method })).status, 404, `${method} ${path}`);
      }
    }
    assert.equal((await rest(`${keyed.keysUrl}/.well-known/jwks.json`, { method: "POST" })).status, 404);
    assert.equal(keyed.seen.filter(({ method }) => method !== "GetJwks").length, seenBefore);
  } finally {
    keyed.stop();
  }
});

test("the keys of the stack's identity are told to anybody", async () => {
  const { status, text } = await rest(`${restUrl}/.well-known/jwks.json`, { token: null });
  const { keys } = JSON.parse(text) as { keys: { kty: string; crv: string; alg: string; kid: string }[] };
  assert.equal(status, 200);
  assert.ok(keys.length > 0);
  for (const { kty, crv, alg, kid } of keys)
    assert.deepEqual([kty, crv, alg, kid === ""], ["OKP", "Ed25519", "EdDSA", false]);
});

test("the stack's gateway takes the tokens of `make token`, and refuses a stranger before the ledger does", async () => {
  const account = `${restUrl}/v1/ledger/accounts/acct_1`;
  assert.equal(errorOf(await rest(account)).status, 400, "the ledger looked at the id");
  const answer = await rest(account, { token: null });
  assert.equal(errorOf(answer).reason, "TOKEN_REQUIRED");
  assert.equal(answer.headers.get("www-authenticate"), 'Bearer realm="ledgermesh"');
  const stranger = await rest(account, { token: await tokenOf() });
  assert.equal(errorOf(stranger).reason, "TOKEN_INVALID", "signed by another development key");
});
