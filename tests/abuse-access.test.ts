import assert from "node:assert/strict";
import { createHmac, createPublicKey, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { SignJWT, UnsecuredJWT } from "jose";
import { developmentKeyFile, developmentToken } from "#infra/local/development-key.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER } from "#lib/access-token.ts";
import { DEVELOPMENT_KEY_ID } from "#lib/signing-keys.ts";
import { type Operation, operations, requestOf } from "#tests/openapi-requests.ts";
import { errorOf, rest } from "#tests/rest.ts";
import {
  newId,
  newKey,
  newOwner,
  openFunded,
  postgres,
  readAccount,
  restUrl,
  shardNumbers,
  stackName,
} from "#tests/stack.ts";
import { newEmail, PASSWORD, signIn, signUp } from "#tests/users.ts";

/** What a thief, a forger and a curious user try on the running system through the gateway, and what exactly they hear. */

const [INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED] = [3, 5, 7, 16];
const WALLETS = "/v1/ledger/accounts";
const guarded = operations.filter(({ roles }) => !roles.includes("ANONYMOUS"));

interface Person {
  readonly userId: string;
  readonly email: string;
  readonly token: string;
  readonly refreshToken: string;
  readonly sessionId: string;
}

let alice: Person;
let bob: Person;

before(async () => {
  [alice, bob] = [await newPerson(), await newPerson()];
});

async function newPerson(): Promise<Person> {
  const { userId, email } = await signUp();
  const { accessToken: token, refreshToken, sessionId } = await signIn({ email });
  return { userId, email, token, refreshToken, sessionId };
}

/** Status, code and reason of a refusal. */
async function refusalOf(path: string, request: Parameters<typeof rest>[1]): Promise<[number, number, string]> {
  const { status, code, reason } = errorOf(await rest(restUrl + path, request));
  return [status, code, reason];
}

const post = (path: string, token: string | null, body: object) =>
  rest(restUrl + path, { token, body: JSON.stringify(body), headers: { "idempotency-key": newKey() } });

/** How an operation answers somebody, to a well-formed request. */
async function refusedAs(operation: Operation, token: string | null): Promise<[number, number, string]> {
  const { url, request } = requestOf(operation);
  return refusalOf(url.slice(restUrl.length), { ...request, token });
}

test("without a token nothing is answered but what is open to anybody", async () => {
  assert.ok(guarded.length > 20);
  for (const operation of guarded) {
    assert.deepEqual(await refusedAs(operation, null), [401, UNAUTHENTICATED, "TOKEN_REQUIRED"], operation.id);
  }
});

test("no role reaches an operation that is not for it", async () => {
  const tokens = {
    USER: alice.token,
    MERCHANT: (await developmentToken(stackName, "merchant", newOwner())).token,
    OPERATOR: (await developmentToken(stackName, "operator", newOwner())).token,
    SERVICE: (await developmentToken(stackName, "service", "service:console")).token,
  };
  let refused = 0;
  for (const operation of guarded) {
    for (const [role, token] of Object.entries(tokens)) {
      if (operation.roles.includes(role)) continue;
      const answer = await refusedAs(operation, token);
      assert.deepEqual(answer, [403, PERMISSION_DENIED, "ROLE_NOT_ALLOWED"], `${operation.id} as ${role}`);
      refused += 1;
    }
  }
  assert.ok(refused > 40);
});

test("an operator without a second factor moves and reads nothing", async () => {
  const { token } = await developmentToken(stackName, "operator", newOwner(), false);
  for (const id of ["CreateTransfer", "FreezeAccount", "GetAccount", "ListAccounts", "SetRates", "ListEntries"]) {
    const operation = guarded.find((candidate) => candidate.id === id);
    assert.ok(operation);
    assert.deepEqual(await refusedAs(operation, token), [403, PERMISSION_DENIED, "SECOND_FACTOR_REQUIRED"], id);
  }
});

test("a token that was not signed by the system, for the system and for now is none", async () => {
  const publicPem = readFileSync(developmentKeyFile(stackName), "utf8");
  const jwks = JSON.parse((await rest(`${restUrl}/.well-known/jwks.json`, { token: null })).text) as {
    keys: { x: string; kid: string }[];
  };
  const [published] = jwks.keys;
  assert.ok(published);
  const stranger = generateKeyPairSync("ed25519");
  const strangerJwk = stranger.publicKey.export({ format: "jwk" });
  const nowSeconds = Math.floor(Date.now() / 1000);
  const claims = { role: "OPERATOR", amr: ["pwd", "otp"] };
  const strangers = (header: object) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: "EdDSA", kid: published.kid, ...header })
      .setSubject(newOwner())
      .setIssuer(TOKEN_ISSUER)
      .setAudience(TOKEN_AUDIENCE)
      .setIssuedAt(nowSeconds)
      .setExpirationTime(nowSeconds + 600)
      .sign(stranger.privateKey);
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const payload = base64({
    ...claims,
    sub: "service:console",
    iss: TOKEN_ISSUER,
    aud: TOKEN_AUDIENCE,
    iat: nowSeconds,
    exp: nowSeconds + 600,
  });
  const byHmac = (key: string | Buffer, kid: string) => {
    const signed = `${base64({ alg: "HS256", kid })}.${payload}`;
    return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
  };
  const [header, body = "", signature] = alice.token.split(".");
  const raised = { ...(JSON.parse(Buffer.from(body, "base64url").toString()) as object), role: "OPERATOR" };
  const rawPublicKey = createPublicKey(publicPem).export({ type: "spki", format: "der" }).subarray(-32);

  const forged: Readonly<Record<string, string>> = {
    "alg none": new UnsecuredJWT({ ...claims, sub: "service:console" })
      .setIssuer(TOKEN_ISSUER)
      .setAudience(TOKEN_AUDIENCE)
      .setExpirationTime(nowSeconds + 600)
      .encode(),
    "alg nOnE with a signature": `${base64({ alg: "nOnE", kid: published.kid })}.${payload}.${signature}`,
    "HS256 with the PEM of the public key": byHmac(publicPem, DEVELOPMENT_KEY_ID),
    "HS256 with the raw public key": byHmac(rawPublicKey, DEVELOPMENT_KEY_ID),
    "HS256 with the key of the JWKS": byHmac(Buffer.from(published.x, "base64url"), published.kid),
    "a stranger's key under a known kid": await strangers({}),
    "a stranger's key under the development kid": await strangers({ kid: DEVELOPMENT_KEY_ID }),
    "an unknown kid": await strangers({ kid: "key_nobody" }),
    "no kid": await strangers({ kid: undefined }),
    "a kid that is a path": await strangers({ kid: "../../../../dev/null" }),
    "a kid that is SQL": await strangers({ kid: "x' or '1'='1" }),
    "a jku of the forger": await strangers({ jku: "https://evil.example/jwks.json" }),
    "an x5u of the forger": await strangers({ x5u: "https://evil.example/chain.pem" }),
    "a jwk of the forger": await strangers({ jwk: strangerJwk }),
    "a crit header that nobody knows": `${base64({ alg: "EdDSA", kid: published.kid, crit: ["b"], b: 1 })}.${payload}.${signature}`,
    "a raised role under the old signature": `${header}.${base64(raised)}.${signature}`,
    "no signature": `${header}.${body}.`,
    "a signature cut short": `${header}.${body}.${signature?.slice(0, -4)}`,
    "a refresh token": alice.refreshToken,
    "no token at all": "Bearer",
    "10 kB of dots": ".".repeat(10_000),
  };
  for (const [name, token] of Object.entries(forged)) {
    const answer = await refusalOf(WALLETS, { token });
    assert.deepEqual(answer, [401, UNAUTHENTICATED, "TOKEN_INVALID"], name);
  }
});

test("a user reaches nobody else's session, and no account of the ledger", async () => {
  const foreign = await refusalOf(`/v1/sessions/${bob.sessionId}`, { method: "DELETE", token: alice.token });
  const absent = await refusalOf(`/v1/sessions/${newId("sess" as "user", 7)}`, {
    method: "DELETE",
    token: alice.token,
  });
  assert.deepEqual(foreign, [404, NOT_FOUND, "SESSION_NOT_FOUND"]);
  assert.deepEqual(foreign, absent);
  assert.equal((await rest(`${restUrl}/v1/users/me`, { token: bob.token })).status, 200);
  const { text } = await rest(`${restUrl}/v1/sessions`, { token: alice.token });
  assert.ok(text.includes(alice.sessionId) && !text.includes(bob.sessionId));

  const wallet = await openFunded(700n, { ownerId: alice.userId });
  for (const path of [`${WALLETS}/${wallet.accountId}`, `${WALLETS}?owner_id=${alice.userId}`]) {
    assert.deepEqual(await refusalOf(path, { token: alice.token }), [403, PERMISSION_DENIED, "ROLE_NOT_ALLOWED"]);
  }
  const postings = [
    { debit_account_id: "system:cash", credit_account_id: wallet.accountId, amount_minor_units: "1", currency: "EUR" },
  ];
  const minted = errorOf(await post("/v1/ledger/transfers", alice.token, { postings }));
  assert.deepEqual([minted.status, minted.reason], [403, "ROLE_NOT_ALLOWED"]);
  assert.equal((await readAccount(wallet.accountId)).postedMinorUnits, 700n);
});

test("nobody gives themselves a role, a status, an id or somebody else's things by sending more fields", async () => {
  const body = { email: newEmail(), password: PASSWORD, name: "Eve", country: "CZ" };
  const refused = async (path: string, token: string | null, sent: object, reason: string, field: string) => {
    const error = errorOf(await post(path, token, sent));
    assert.deepEqual([error.status, error.code, error.reason, error.fields], [400, INVALID_ARGUMENT, reason, [field]]);
  };
  await refused("/v1/users", null, { ...body, role: "OPERATOR" }, "MALFORMED_REQUEST", "role");
  for (const [field, value] of Object.entries({
    status: "ACTIVE",
    user_id: bob.userId,
    version: "1",
    create_time: "2020-01-01T00:00:00Z",
    second_factor: true,
    balance: "1000000",
    owner_id: bob.userId,
    __proto__polluted: { role: "OPERATOR" },
    constructor: { prototype: { role: "OPERATOR" } },
  })) {
    await refused("/v1/users", null, { ...body, [field]: value }, "UNKNOWN_FIELD", field);
  }
  for (const field of ["role", "status", "user_id", "email", "password", "pending_email", "version"]) {
    const answer = await rest(`${restUrl}/v1/users/me`, {
      method: "PATCH",
      token: alice.token,
      body: JSON.stringify({ name: "Eve", [field]: "OPERATOR" }),
      headers: { "idempotency-key": newKey() },
    });
    assert.deepEqual(
      [errorOf(answer).status, errorOf(answer).reason, errorOf(answer).fields],
      [400, "UNKNOWN_FIELD", [field]],
    );
  }
  const me = JSON.parse((await rest(`${restUrl}/v1/users/me`, { token: alice.token })).text) as {
    role: string;
    name: string;
  };
  assert.deepEqual([me.role, me.name], ["USER", "Ada"]);
});

test("headers that claim to be somebody change nothing", async () => {
  const headers = {
    "x-forwarded-for": "127.0.0.1",
    "x-real-ip": "127.0.0.1",
    "x-ledgermesh-principal": "service:console",
    "x-ledgermesh-role": "SERVICE",
    "x-caller": "service:console",
    "x-envoy-internal": "true",
    "x-jwt-payload": Buffer.from('{"role":"SERVICE"}').toString("base64url"),
    "x-user-id": bob.userId,
    "x-original-url": "/v1/users",
    "x-http-method-override": "DELETE",
  };
  assert.deepEqual(await refusalOf(WALLETS, { token: null, headers }), [401, UNAUTHENTICATED, "TOKEN_REQUIRED"]);
  const asAlice = await refusalOf(WALLETS, { token: alice.token, headers });
  assert.deepEqual(asAlice, [403, PERMISSION_DENIED, "ROLE_NOT_ALLOWED"]);
  const me = await rest(`${restUrl}/v1/users/me`, { token: alice.token, headers });
  assert.equal((JSON.parse(me.text) as { user_id: string }).user_id, alice.userId);
});

test("who uses a refresh token a second time ends the session, for the thief and for the owner", async () => {
  const { email } = await signUp();
  const { refreshToken: first } = await signIn({ email });
  const refresh = (token: string) =>
    rest(`${restUrl}/v1/sessions:refresh`, { token: null, body: JSON.stringify({ refresh_token: token }) });
  const answer = await refresh(first);
  assert.equal(answer.status, 200, answer.text);
  const { refresh_token: second } = JSON.parse(answer.text) as { refresh_token: string };
  for (const token of [first, second]) {
    const error = errorOf(await refresh(token));
    assert.deepEqual([error.status, error.code, error.reason], [401, UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"]);
  }
  for (const token of ["", "x", alice.token, `${second}x`, second.slice(1)]) {
    assert.ok([400, 401].includes(errorOf(await refresh(token)).status), token);
  }
});

test("an unknown address and a wrong password get the same answer, to the letter", async () => {
  const attempt = async (email: string) => {
    const { status, headers, text } = await post("/v1/sessions", null, { email, password: "not the password" });
    return [status, headers.get("www-authenticate"), text.replaceAll(email, "EMAIL")];
  };
  const known = await attempt(alice.email);
  assert.deepEqual(known, await attempt(newEmail()));
  assert.equal(known[0], 401);
  assert.match(String(known[2]), /"reason":"CREDENTIALS_INVALID"/);
});

test("what was sent as a password or a token stands in no table", async () => {
  const secret = `secret-${newKey()}`;
  const { email } = await signUp({ password: secret });
  const { refreshToken, accessToken } = await signIn({ email }, secret);
  for (const shard of shardNumbers) {
    const { rows } = await postgres(shard).query<{ name: string }>(
      "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('identity', 'ledger')",
    );
    for (const { name } of rows) {
      const found = await postgres(shard).query(
        `select 1 from ${name} as t where t::text like any ($1::text[]) limit 1`,
        [[secret, refreshToken, accessToken].map((text) => `%${text}%`)],
      );
      assert.equal(found.rowCount, 0, name);
    }
  }
});
