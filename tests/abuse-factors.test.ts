import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, challengeOf, codeOf, signUpWithFactor, wrongCode } from "#tests/factors.ts";
import { linkCard } from "#tests/funding-sources.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { newId, newKey, restUrl } from "#tests/stack.ts";
import { PASSWORD, signIn, signUp } from "#tests/users.ts";

/** Second factors, devices and funding sources as a thief sees them, through the gateway. */

const [INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNAUTHENTICATED] = [3, 5, 8, 16];

const signInWith = (challengeId: string, totpCode: string) =>
  rest(`${restUrl}/v1/sessions`, {
    token: null,
    body: JSON.stringify({ challenge_id: challengeId, totp_code: totpCode }),
  });

test("a code that was used opens nothing, though the password is known", async () => {
  const { user, secret } = await signUpWithFactor();
  const [first, second] = [await challengeOf(user), await challengeOf(user)];
  const code = codeOf(secret);
  assert.equal((await signInWith(first, code)).status, 200);
  for (const challenge of [first, second]) {
    const { status, code: grpcCode, reason } = errorOf(await signInWith(challenge, code));
    assert.deepEqual([status, grpcCode], [401, UNAUTHENTICATED], reason);
  }
  assert.equal(errorOf(await signInWith(second, code)).reason, "SECOND_FACTOR_USED");
});

test("trying codes ends after five, for the right one too", async () => {
  const { user, secret } = await signUpWithFactor();
  const challenge = await challengeOf(user);
  for (let attempt = 1; attempt <= 4; attempt += 1) {
    const { status, code, reason } = errorOf(await signInWith(challenge, wrongCode(secret)));
    assert.deepEqual([status, code, reason], [401, UNAUTHENTICATED, "SECOND_FACTOR_INVALID"]);
  }
  for (const code of [wrongCode(secret), codeOf(secret)]) {
    const refused = errorOf(await signInWith(challenge, code));
    assert.deepEqual([refused.status, refused.code, refused.reason], [429, RESOURCE_EXHAUSTED, "SECOND_FACTOR_LOCKED"]);
  }
});

test("a stolen access token turns no second factor off and enrols no other", async () => {
  const { user, tokens, secret } = await signUpWithFactor();
  const command = async (path: string, body: object) => {
    const answered = await rest(`${restUrl}/v1/users/me/totp${path}`, {
      token: tokens.accessToken,
      body: JSON.stringify(body),
      headers: { "idempotency-key": newKey() },
    });
    return errorOf(answered).status;
  };
  assert.equal(await command("", { password: "not the password" }), 400);
  assert.equal(await command(":disable", {}), 400);
  assert.equal(await command(":disable", { totp_code: wrongCode(secret) }), 401);
  // Still asked for, and still the same.
  await answer(await challengeOf(user), { totpCode: codeOf(secret) });
});

test("another's devices and funding sources are answered, to the letter, as ones that are not there", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const [asAlice, asBob] = [await signIn(alice, PASSWORD), await signIn(bob, PASSWORD)];
  const card = await linkCard(asBob);
  const { devices } = JSON.parse((await rest(`${restUrl}/v1/devices`, { token: asBob.accessToken })).text) as {
    devices: { device_id: string }[];
  };
  const refusal = async (path: string, id: string, method: string) => {
    const refused = await rest(`${restUrl}${path}/${id}`, { method, token: asAlice.accessToken });
    const { status, code } = errorOf(refused);
    assert.deepEqual([status, code], [404, NOT_FOUND]);
    return refused.text.replaceAll(id, "ID");
  };
  const things: [path: string, id: string, absent: string, methods: string[]][] = [
    ["/v1/funding_sources", card.fundingSourceId, newId("fund" as "user", 7), ["GET", "DELETE"]],
    ...devices.map(({ device_id }): [string, string, string, string[]] => [
      "/v1/devices",
      device_id,
      newId("dev" as "user", 7),
      ["DELETE"],
    ]),
  ];
  for (const [path, id, absent, methods] of things) {
    for (const method of methods) assert.equal(await refusal(path, id, method), await refusal(path, absent, method));
  }
  for (const list of ["/v1/funding_sources", "/v1/devices"]) {
    const { text } = await rest(restUrl + list, { token: asAlice.accessToken });
    for (const [, id] of things) assert.ok(!text.includes(id), list);
  }
  const own = await rest(`${restUrl}/v1/funding_sources/${card.fundingSourceId}`, { token: asBob.accessToken });
  assert.equal(own.status, 200);
});

test("the number of a card is refused wherever it stands, and not repeated", async () => {
  const { accessToken } = await signIn(await signUp());
  const number = "4111 1111 1111 1111";
  const source = { kind: "CARD", provider: "simulator", provider_token: newKey(), name: "Visa", last4: "1111" };
  for (const change of [{ name: number }, { provider_token: number.replaceAll(" ", "") }, { name: "cvv 123" }]) {
    const refused = await rest(`${restUrl}/v1/funding_sources`, {
      token: accessToken,
      body: JSON.stringify({ ...source, expiry_month: 1, expiry_year: 2040, ...change }),
      headers: { "idempotency-key": newKey() },
    });
    const { status, code, reason } = errorOf(refused);
    assert.deepEqual([status, code, reason], [400, INVALID_ARGUMENT, "CARD_DATA_REFUSED"]);
    assert.doesNotMatch(refused.text, /4111|\b123\b/);
  }
});
