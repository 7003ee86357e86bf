import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { test } from "node:test";
import { type AccessTokens, accessTokens } from "#lib/access-token.ts";
import { createLogger } from "#lib/log.ts";
import { Refusal } from "#lib/refusal.ts";
import { openSigningKeys, type PublishedKey } from "#lib/signing-keys.ts";

const ISSUER = "https://ledgermesh";
const USER = "user_01jd800000e03r00000000188w";
const SESSION = "sess_01jd800000e03r00000000188w";
const NOW_SECONDS = 1_800_000_000;
const log = createLogger("test");
log.level = "silent";

const identity = generateKeyPairSync("ed25519");
const launcher = generateKeyPairSync("ed25519");
const stranger = generateKeyPairSync("ed25519");
const spki = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
const publish = (kid: string, key: KeyObject): PublishedKey => ({
  kid,
  ...(key.export({ format: "jwk" }) as { kty: string; crv: string; x: string }),
});

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

const header = { alg: "EdDSA", kid: "k1", typ: "JWT" };
const payload = {
  iss: ISSUER,
  aud: "ledgermesh",
  sub: USER,
  role: "USER",
  sid: SESSION,
  amr: ["pwd"],
  iat: NOW_SECONDS,
  nbf: NOW_SECONDS,
  exp: NOW_SECONDS + 600,
};

/** Undefined in `changes` leaves a claim out. */
function token(
  changes: { header?: object; payload?: object } = {},
  signature: (text: string) => Buffer = (text) => sign(null, Buffer.from(text), identity.privateKey),
): string {
  const text = `${encode({ ...header, ...changes.header })}.${encode({ ...payload, ...changes.payload })}`;
  return `${text}.${signature(text).toString("base64url")}`;
}

const byLauncher = (text: string) => sign(null, Buffer.from(text), launcher.privateKey);
const development = (changes: object) =>
  token({ header: { kid: "development" }, payload: { sid: undefined, ...changes } }, byLauncher);

interface World {
  readonly tokens: AccessTokens;
  published: PublishedKey[];
  nowSeconds: number;
  reads: number;
}

/** Tokens under the key k1, with a clock that the test sets. */
async function world(
  t: { after: (work: () => Promise<void>) => void },
  { developmentKey, away = false }: { developmentKey?: string; away?: boolean } = {},
): Promise<World> {
  const state = { published: [publish("k1", identity.publicKey)], nowSeconds: NOW_SECONDS, reads: 0 };
  const fetchKeys = () => {
    state.reads += 1;
    return away ? Promise.reject(new Error("away")) : Promise.resolve(state.published);
  };
  const keys = await openSigningKeys(fetchKeys, developmentKey, log);
  t.after(() => keys.stop());
  return Object.assign(state, { tokens: accessTokens(ISSUER, keys, () => state.nowSeconds * 1000) });
}

const refused =
  (reason: string, text = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof Refusal, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, text);
    return true;
  };

test("a token says who its bearer is, and is verified once", async (t) => {
  const { tokens } = await world(t, { developmentKey: spki(launcher.publicKey) });
  const user = { role: "USER", userId: USER, sessionId: SESSION, secondFactor: false };
  const ofUser = token();
  const first = tokens.principalOf(ofUser);
  assert.ok(first instanceof Promise);
  assert.deepEqual(await first, user);
  assert.deepEqual(tokens.principalOf(ofUser), user, "at once from then on");

  const operator = token({ payload: { role: "OPERATOR", amr: ["pwd", "otp"] } });
  assert.deepEqual(await tokens.principalOf(operator), { ...user, role: "OPERATOR", secondFactor: true });
  const service = development({ sub: "service:ledger", role: "SERVICE", amr: undefined });
  assert.deepEqual(await tokens.principalOf(service), { role: "SERVICE", name: "ledger" });
});

test("what is signed by nobody, by a stranger, or by anything but EdDSA is refused", async (t) => {
  const { tokens } = await world(t);
  const hs256 = (secret: string | Buffer) =>
    token({ header: { alg: "HS256" } }, (text) => createHmac("sha256", secret).update(text).digest());
  const { x } = publish("k1", identity.publicKey);
  const cases: [string, string][] = [
    ["alg none without a signature", token({ header: { alg: "none" } }, () => Buffer.alloc(0))],
    ["alg none with one", token({ header: { alg: "none" } })],
    ["alg None", token({ header: { alg: "None" } }, () => Buffer.alloc(0))],
    ["HS256 with the public key in PEM", hs256(spki(identity.publicKey))],
    ["HS256 with the public key's bytes", hs256(Buffer.from(x, "base64url"))],
    ["no alg", token({ header: { alg: undefined } })],
    ["a stranger's key", token({}, (text) => sign(null, Buffer.from(text), stranger.privateKey))],
    ["no signature", token({}, () => Buffer.alloc(0))],
    [
      "another payload under the signature",
      `${encode(header)}.${encode({ ...payload, role: "OPERATOR" })}.${token().split(".")[2]}`,
    ],
    ["no token", "a.b.c"],
    ["too long", `${token()}${"A".repeat(5_000)}`],
    ["an unknown critical header", token({ header: { crit: ["exp2"], exp2: 1 } })],
  ];
  for (const [what, text] of cases) {
    await assert.rejects(async () => await tokens.principalOf(text), refused("TOKEN_INVALID"), what);
  }
});

test("a key that the token brings or names itself is never used", async (t) => {
  const { tokens } = await world(t);
  const byStranger = (text: string) => sign(null, Buffer.from(text), stranger.privateKey);
  const jwk = publish("mine", stranger.publicKey);
  for (const own of [
    { jwk },
    { jku: "https://127.0.0.1:1/keys.json" },
    { x5u: "https://127.0.0.1:1/chain.pem" },
    { x5c: ["AAAA"] },
  ]) {
    for (const kid of ["k1", "mine"]) {
      const text = token({ header: { ...own, kid } }, byStranger);
      await assert.rejects(async () => await tokens.principalOf(text), refused("TOKEN_INVALID", /its header has/));
    }
    // Even with a good signature: a token of ours has no such header.
    await assert.rejects(
      async () => await tokens.principalOf(token({ header: own })),
      refused("TOKEN_INVALID", /its header has/),
    );
  }
  const noKid = token({ header: { kid: undefined } });
  await assert.rejects(async () => await tokens.principalOf(noKid), refused("TOKEN_INVALID", /no kid/));
});

test("an unknown kid is looked up, but not for everybody who makes one up", async (t) => {
  const state = await world(t);
  await state.tokens.principalOf(token());
  const before = state.reads;
  for (let index = 0; index < 20; index += 1) {
    const text = token({ header: { kid: `made-up-${index}` } });
    await assert.rejects(async () => await state.tokens.principalOf(text), refused("TOKEN_INVALID", /kid/));
  }
  assert.ok(state.reads - before <= 1, `${state.reads - before} reads`);
});

test("nobody's token is called bad while identity does not tell its keys", async (t) => {
  const { tokens } = await world(t, { away: true });
  await assert.rejects(
    async () => await tokens.principalOf(token()),
    (error) => {
      refused("SIGNING_KEYS_UNKNOWN")(error);
      assert.ok(error instanceof Refusal);
      assert.equal(error.status, "UNAVAILABLE");
      return true;
    },
  );
});

test("a token counts from its beginning to its end, and not a moment longer", async (t) => {
  const state = await world(t);
  const { tokens } = state;
  const text = token();
  state.nowSeconds = NOW_SECONDS - 31;
  await assert.rejects(async () => await tokens.principalOf(text), refused("TOKEN_INVALID", /nbf/));
  state.nowSeconds = NOW_SECONDS - 29;
  await tokens.principalOf(text);
  state.nowSeconds = NOW_SECONDS + 599;
  assert.ok(!(tokens.principalOf(text) instanceof Promise));
  for (const over of [600, 615, 10_000]) {
    state.nowSeconds = NOW_SECONDS + over;
    await assert.rejects(async () => await tokens.principalOf(text), refused("TOKEN_EXPIRED"), `remembered, ${over}`);
    const fresh = token({ payload: { amr: ["pwd", String(over)] } });
    await assert.rejects(async () => await tokens.principalOf(fresh), refused("TOKEN_EXPIRED"), `fresh, ${over}`);
  }
});

test("wrong or missing claims are refused", async (t) => {
  const { tokens } = await world(t);
  const cases: [string, object][] = [
    ["issuer", { iss: "https://evil" }],
    ["no issuer", { iss: undefined }],
    ["audience", { aud: "others" }],
    ["no audience", { aud: undefined }],
    ["no end", { exp: undefined }],
    ["no beginning", { nbf: undefined }],
    ["no issue time", { iat: undefined }],
    ["end is text", { exp: "never" }],
    ["lives too long", { exp: NOW_SECONDS + 601 }],
    ["lives for ever, by an early issue time", { iat: NOW_SECONDS - 86_400 }],
    ["issued after its end", { iat: NOW_SECONDS + 900 }],
    ["no subject", { sub: undefined }],
    ["subject of another kind", { sub: "acct_01jd800000e03r00000000188w" }],
    ["no role", { role: undefined }],
    ["role that is not known", { role: "ROOT" }],
    ["role in other letters", { role: "operator" }],
    ["several roles", { role: ["USER", "OPERATOR"] }],
    ["a user without a session", { sid: undefined }],
    ["a session of another shape", { sid: "x" }],
    ["a session that is a number", { sid: 1 }],
    ["a service by identity's key", { role: "SERVICE", sub: "service:ledger", sid: undefined }],
    ["a service that is a user", { role: "SERVICE", sid: undefined }],
    ["a service with a session", { role: "SERVICE", sub: "service:ledger" }],
    ["a service with an odd name", { role: "SERVICE", sub: "service:a b", sid: undefined }],
    ["a user that is a service", { sub: "service:ledger" }],
  ];
  for (const [what, changes] of cases) {
    const text = token({ payload: changes });
    await assert.rejects(async () => await tokens.principalOf(text), refused("TOKEN_INVALID"), what);
  }
});

test("when a key is taken out, its tokens end, those that were verified before too", async (t) => {
  const state = await world(t);
  const text = token();
  await state.tokens.principalOf(text);
  const next = generateKeyPairSync("ed25519");
  state.published = [publish("k2", next.publicKey)];
  // An unknown kid makes it look again; the first look was just now.
  t.mock.method(performance, "now", () => 1e9);
  const byNext = token({ header: { kid: "k2" } }, (body) => sign(null, Buffer.from(body), next.privateKey));
  await state.tokens.principalOf(byNext);
  await assert.rejects(async () => await state.tokens.principalOf(text), refused("TOKEN_INVALID", /kid/));
});

test("a kid that gets another key keeps no token of the old one", async (t) => {
  const state = await world(t);
  const text = token();
  await state.tokens.principalOf(text);
  state.published = [publish("k1", stranger.publicKey), publish("k2", stranger.publicKey)];
  t.mock.method(performance, "now", () => 1e9);
  const byStranger = token({ header: { kid: "k2" } }, (body) => sign(null, Buffer.from(body), stranger.privateKey));
  await state.tokens.principalOf(byStranger);
  await assert.rejects(async () => await state.tokens.principalOf(text), refused("TOKEN_INVALID", /signature/));
});

test("the development key counts only where it is configured, and identity cannot publish it", async (t) => {
  const without = await world(t);
  without.published.push(publish("development", launcher.publicKey));
  const text = development({});
  await assert.rejects(
    async () => await without.tokens.principalOf(text),
    refused("TOKEN_INVALID", /development tokens are not taken here/),
  );
  const { tokens } = await world(t, { developmentKey: spki(launcher.publicKey) });
  const user = { role: "USER", userId: USER, sessionId: undefined, secondFactor: false };
  assert.deepEqual(await tokens.principalOf(text), user);
  await tokens.principalOf(development({ exp: NOW_SECONDS + 3_600 }));
  await assert.rejects(
    async () => await tokens.principalOf(development({ exp: NOW_SECONDS + 3_601 })),
    refused("TOKEN_INVALID", /too long/),
  );
  // Its private half is not identity's.
  const mixed = token({ header: { kid: "development" }, payload: { sid: undefined } });
  await assert.rejects(async () => await tokens.principalOf(mixed), refused("TOKEN_INVALID", /signature/));
});

test("a token that is known costs less than 0.2 ms", async (t) => {
  const { tokens } = await world(t);
  const texts = Array.from({ length: 100 }, (_, index) => token({ payload: { amr: ["pwd", String(index)] } }));
  for (const text of texts) await tokens.principalOf(text);
  // As they come with calls: text that was read just now.
  const bytes = Array.from({ length: 200 }, () => texts.map((text) => Buffer.from(text))).flat();
  const before = performance.now();
  for (const read of bytes) await tokens.principalOf(read.toString("latin1"));
  const eachMs = (performance.now() - before) / bytes.length;
  t.diagnostic(`${(eachMs * 1000).toFixed(2)} µs a check`);
  assert.ok(eachMs < 0.2, `${eachMs} ms`);
});
