import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { Account_Kind, Account_Status, CreateAccountRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import {
  ledger,
  newId,
  newKey,
  newOwner,
  openAccount,
  postgres,
  readAccount,
  setStatus,
  transfer,
} from "#tests/stack.ts";

test("an account is opened in the bucket of its owner, empty and active, and can be read back", async () => {
  for (const shard of [1, 2]) {
    const ownerId = newOwner(shard);
    const account = await openAccount({
      ownerId,
      currency: "JPY",
      kind: Account_Kind.MERCHANT,
      metadata: { a: 'b"\\' },
    });
    assert.equal(parseId(account.accountId, "acct")?.bucket, parseId(ownerId)?.bucket);
    assert.equal(account.status, Account_Status.ACTIVE);
    assert.deepEqual([account.postedMinorUnits, account.floorMinorUnits, account.version], [0n, 0n, 1n]);
    assert.deepEqual(await readAccount(account.accountId), account);
    const { rows } = await postgres(shard).query("select from ledger.accounts where owner_id = $1", [ownerId]);
    assert.equal(rows.length, 1);
  }
});

test("floors: zero by default, below zero when asked for, none when unbounded", async () => {
  const limited = await openAccount({ floor: { $case: "floorMinorUnits", value: -500n } });
  const unbounded = await openAccount({ floor: { $case: "unbounded", value: true } });
  assert.equal((await readAccount(limited.accountId)).floorMinorUnits, -500n);
  assert.equal((await readAccount(unbounded.accountId)).floorMinorUnits, undefined);
});

test("50 identical calls at once open one account; the others get the first answer again", async () => {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newOwner(),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(ledger, ledger.createAccount, request)));
  assert.equal(new Set(answers.map(({ response }) => response.accountId)).size, 1);
  assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  const { rows } = await postgres(1).query("select from ledger.accounts where owner_id = $1", [request.ownerId]);
  assert.equal(rows.length, 1);
});

test("a replay answers the balances of then and the status of now", async () => {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newOwner(),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  const { response: first } = await call(ledger, ledger.createAccount, request);
  await transfer("system:cash", first.accountId, 5n);
  await setStatus("freeze", first.accountId);
  const { response: again, replayed } = await call(ledger, ledger.createAccount, request);
  assert.ok(replayed);
  assert.deepEqual(again, { ...first, status: Account_Status.FROZEN });
});

test("the same key with another body is refused and names the first account", async () => {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newOwner(),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey: newKey(),
  });
  const { response } = await call(ledger, ledger.createAccount, request);
  await assert.rejects(call(ledger, ledger.createAccount, { ...request, currency: "USD" }), {
    code: 6,
    reason: "IDEMPOTENCY_KEY_REUSED",
    metadata: { idempotency_key: request.idempotencyKey, resource_type: "account", resource_name: response.accountId },
  });
});

test("a reference is used once per owner, and the refusal is replayed", async () => {
  const first = await openAccount({ reference: "main" });
  const request = CreateAccountRequest.fromPartial({
    ownerId: first.ownerId,
    currency: "USD",
    kind: Account_Kind.WALLET,
    reference: "main",
    idempotencyKey: newKey(),
  });
  await assert.rejects(call(ledger, ledger.createAccount, request), {
    code: 9,
    reason: "REFERENCE_ALREADY_USED",
    replayed: false,
  });
  await assert.rejects(call(ledger, ledger.createAccount, request), {
    code: 9,
    reason: "REFERENCE_ALREADY_USED",
    replayed: true,
  });
  const other = await openAccount({ reference: "main" });
  assert.equal(other.reference, "main");
});

test("an account without an owner belongs to the caller, and its reference is the caller's own", async () => {
  const reference = `settlement ${newKey()}`;
  const account = await openAccount({ ownerId: "", reference });
  assert.equal(account.ownerId, "");
  await assert.rejects(openAccount({ ownerId: "", reference }), { code: 9, reason: "REFERENCE_ALREADY_USED" });
});

test("a malformed request names every field, writes nothing, and does not use up its key", async () => {
  const idempotencyKey = newKey();
  const bad = CreateAccountRequest.fromPartial({
    ownerId: "user_1",
    currency: "eur",
    kind: 99 as never,
    floor: { $case: "floorMinorUnits", value: 1n },
    reference: "x".repeat(65),
    metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"])),
    idempotencyKey,
  });
  await assert.rejects(call(ledger, ledger.createAccount, bad), {
    code: 3,
    reason: "MALFORMED_REQUEST",
    fields: ["owner_id", "currency", "kind", "floor_minor_units", "reference", "metadata"],
  });
  const good = CreateAccountRequest.fromPartial({
    ownerId: newOwner(),
    currency: "EUR",
    kind: Account_Kind.WALLET,
    idempotencyKey,
  });
  assert.equal((await call(ledger, ledger.createAccount, good)).replayed, false);
});

test("no account is opened in a currency that ISO 4217 has withdrawn", async () => {
  for (const currency of ["BGN", "ANG", "CUC"])
    await assert.rejects(openAccount({ currency }), { code: 3, reason: "MALFORMED_REQUEST", fields: ["currency"] });
});

test("metadata has 16 pairs at most, keys of 40 and values of 200 characters, and comes back as it was", async () => {
  const full = Object.fromEntries(
    Array.from({ length: 16 }, (_, index) => [`${index}`.padStart(40, "k"), "🪙".repeat(200)]),
  );
  const account = await openAccount({ metadata: full });
  assert.deepEqual((await readAccount(account.accountId)).metadata, full);
  await assert.rejects(openAccount({ metadata: { ...full, more: "" } }), { code: 3, fields: ["metadata"] });
  for (const key of ["", "k".repeat(41), "a\u0000b"])
    await assert.rejects(openAccount({ metadata: { [key]: "v" } }), { code: 3, fields: ["metadata"] }, key);
  for (const value of ["v".repeat(201), "two\nlines"])
    await assert.rejects(openAccount({ metadata: { note: value } }), { code: 3, fields: ["metadata.note"] });
});

test("nobody can take a system account's name", async () => {
  await assert.rejects(openAccount({ reference: "system:cash" }), { code: 3, fields: ["reference"] });
});

test("an idempotency key is required, in the header or the field, and the two must agree", async () => {
  const request = CreateAccountRequest.fromPartial({
    ownerId: newId("user", 5),
    currency: "EUR",
    kind: Account_Kind.WALLET,
  });
  await assert.rejects(call(ledger, ledger.createAccount, request), { code: 3, reason: "IDEMPOTENCY_KEY_REQUIRED" });
  await assert.rejects(
    call(ledger, ledger.createAccount, { ...request, idempotencyKey: "a" }, { "idempotency-key": "b" }),
    {
      code: 3,
      reason: "IDEMPOTENCY_KEY_MISMATCH",
    },
  );
  await assert.rejects(call(ledger, ledger.createAccount, { ...request, idempotencyKey: "with space" }), {
    code: 3,
    reason: "IDEMPOTENCY_KEY_MALFORMED",
  });
  const key = newKey();
  const { response } = await call(
    ledger,
    ledger.createAccount,
    { ...request, idempotencyKey: key },
    { "idempotency-key": key },
  );
  const again = await call(ledger, ledger.createAccount, request, { "idempotency-key": key });
  assert.deepEqual([again.response.accountId, again.replayed], [response.accountId, true]);
});
