import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { type CreateFundingSourceRequest, FundingSource_Kind } from "#proto/ledgermesh/identity/v1/identity.ts";
import { cardRequest, linkCard } from "#tests/funding-sources.ts";
import { identity } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

const tokens = await signIn(await signUp());
const create = (request: Partial<CreateFundingSourceRequest>) =>
  call(identity, identity.createFundingSource, cardRequest(request), bearer(tokens));

test("a card, a bank account and a wallet are linked by a provider's token, which nobody is told again", async () => {
  const own = await signIn(await signUp());
  const request = cardRequest();
  const { response } = await call(identity, identity.createFundingSource, request, bearer(own));
  const { fundingSourceId, createTime, ...rest } = response;
  assert.match(fundingSourceId, /^fund_[0-9a-z]{26}$/);
  assert.ok(createTime);
  const { providerToken, idempotencyKey, ...asked } = request;
  assert.deepEqual(rest, asked);
  assert.ok(!JSON.stringify(response).includes(providerToken) && idempotencyKey !== "");
  await linkCard(own, {
    kind: FundingSource_Kind.BANK_ACCOUNT,
    name: "Česká spořitelna",
    last4: "0799",
    expiryMonth: 0,
    expiryYear: 0,
  });
  await linkCard(own, { kind: FundingSource_Kind.WALLET, name: "PayPal", last4: "", expiryMonth: 0, expiryYear: 0 });
});

test("the same call again answers the same; another body under its key, and the same token under another, are refused", async () => {
  const request = cardRequest();
  const first = await create(request);
  const again = await create(request);
  assert.deepEqual(again.response, first.response);
  assert.ok(again.replayed && !first.replayed);
  await assert.rejects(create({ ...request, name: "Mastercard" }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
  });
  await assert.rejects(create({ providerToken: request.providerToken }), {
    code: 6,
    reason: "FUNDING_SOURCE_EXISTS",
    metadata: { resource_type: "funding_source", resource_name: first.response.fundingSourceId },
  });
  const results = await Promise.all(Array.from({ length: 10 }, () => create(request)));
  assert.equal(new Set(results.map(({ response }) => response.fundingSourceId)).size, 1);
});

test("twenty are the most, also when they come at the same moment", async () => {
  const own = await signIn(await signUp());
  const results = await Promise.allSettled(Array.from({ length: 26 }, () => linkCard(own)));
  const reasons = results.map((result) => (result.status === "rejected" ? (result.reason.reason as string) : "linked"));
  assert.equal(reasons.filter((reason) => reason === "linked").length, 20);
  assert.equal(reasons.filter((reason) => reason === "TOO_MANY_FUNDING_SOURCES").length, 6);
});

test("what is malformed is named, and a card whose time is over is refused", async () => {
  await assert.rejects(
    create({ kind: 0, provider: "A B", providerToken: "", name: " ", last4: "12", expiryMonth: 13, expiryYear: 26 }),
    { code: 3, fields: ["kind", "provider", "provider_token", "name", "last4", "expiry_month", "expiry_year"] },
  );
  await assert.rejects(create({ kind: FundingSource_Kind.WALLET }), {
    code: 3,
    fields: ["expiry_month", "expiry_year"],
  });
  await assert.rejects(create({ expiryMonth: 1, expiryYear: 2020 }), { code: 9, reason: "CARD_EXPIRED" });
  await assert.rejects(create({ idempotencyKey: "" }), { reason: "IDEMPOTENCY_KEY_REQUIRED" });
});

test("a card number, an IBAN and a verification value are refused in every field", async () => {
  for (const [field, value] of [
    ["providerToken", "4111111111111111"],
    ["providerToken", "DE89370400440532013000"],
    ["name", "Visa 4111 1111 1111 1111"],
    ["name", "Visa, cvv 123"],
    ["last4", "4111111111111111"],
    ["provider", "4111111111111111"],
    ["idempotencyKey", "4111111111111111"],
  ] as const) {
    await assert.rejects(create({ [field]: value }), (error: { code: number; reason: string; message: string }) => {
      assert.deepEqual([error.code, error.reason], [3, "CARD_DATA_REFUSED"], field);
      assert.doesNotMatch(error.message, /\d{3}/);
      return true;
    });
  }
});
