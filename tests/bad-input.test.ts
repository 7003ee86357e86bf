import assert from "node:assert/strict";
import { before, test } from "node:test";
import { parseId } from "#lib/ids.ts";
import { changeQuote, convert, quoteOf, setRate } from "#tests/exchange.ts";
import { errorOf, rest } from "#tests/rest.ts";
import { newId, newKey, newOwner, openAccount, openFunded, postgres, restUrl, stack } from "#tests/stack.ts";

/** Bad input over REST, on the real services: a 400 or 404 that names field and reason, and nothing written. */

const LEDGER = `${restUrl}/v1/ledger`;
const HISTORY = `${restUrl}/v1/history`;
/** Every key of these tests begins with it, so that what they left behind can be looked for. */
const KEY_PREFIX = `bad-${newKey()}-`;
const OWNER = newOwner();
const BUCKET = bucketOf(OWNER);
const UNKNOWN_ACCOUNT = newId("acct", BUCKET);
const UNKNOWN_TRANSFER = newId("xfer", BUCKET);
const MALFORMED = "MALFORMED_REQUEST";

let payer = "";
let payee = "";
let keys = 0;

/** What a body should be refused for: status, reason and fields. */
type Expected = readonly [status: number, reason: string, ...fields: string[]];

function bucketOf(id: string): number {
  const parsed = parseId(id);
  assert.ok(parsed);
  return parsed.bucket;
}

before(async () => {
  ({ accountId: payer } = await openFunded(1_000n, { ownerId: OWNER }));
  ({ accountId: payee } = await openFunded(1_000n, { ownerId: OWNER }));
});

/** All that the tests' accounts and keys have left in the system. */
async function written(): Promise<unknown> {
  const accounts = [payer, payee].flatMap((id) => [`${LEDGER}/accounts/${id}`, `${LEDGER}/accounts/${id}/entries`]);
  const answers = await Promise.all(accounts.map((url) => rest(url)));
  const rows = await Promise.all(
    stack.shards.map((_, index) =>
      postgres(index + 1).query(
        `select (select count(*) from ledger.idempotency_keys where key like $1 || '%') as keys,
                (select count(*) from ledger.accounts where owner_id = $2) as accounts`,
        [KEY_PREFIX, OWNER],
      ),
    ),
  );
  return [answers.map(({ status, text }) => [status, text]), rows.map((answer) => answer.rows)];
}

/** Sends each body with a key of its own and checks how it is refused; then, that nothing has changed. */
async function refuseAll(
  path: string,
  cases: readonly (readonly [body: string | object, ...Expected])[],
): Promise<void> {
  const writtenBefore = await written();
  for (const [body, status, reason, ...fields] of cases) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    keys += 1;
    const headers = { "idempotency-key": `${KEY_PREFIX}${keys}` };
    const error = errorOf(await rest(`${LEDGER}/${path}`, { body: text, headers }));
    assert.deepEqual([error.status, error.reason, ...error.fields], [status, reason, ...fields], text.slice(0, 300));
  }
  assert.deepEqual(await written(), writtenBefore);
}

async function refuseQueries(cases: readonly (readonly [url: string, ...Expected])[]): Promise<void> {
  for (const [url, status, reason, ...fields] of cases) {
    const error = errorOf(await rest(url));
    assert.deepEqual([error.status, error.reason, ...error.fields], [status, reason, ...fields], url);
  }
}

const posting = (change: object = {}) => ({
  debit_account_id: payer,
  credit_account_id: payee,
  amount_minor_units: "5",
  currency: "EUR",
  ...change,
});
const transfer = (change: object = {}, more: object = {}) => ({ postings: [posting(change)], ...more });
/** A transfer whose amount is written just so. */
const withAmount = (amount: string) =>
  JSON.stringify(transfer({ amount_minor_units: "AMOUNT" })).replace('"AMOUNT"', amount);
const AMOUNT = "postings[0].amount_minor_units";

test("malformed JSON", async () => {
  const whole = JSON.stringify(transfer());
  await refuseAll("transfers", [
    [whole.slice(0, -1), 400, "MALFORMED_JSON"],
    [`${whole},`, 400, "MALFORMED_JSON"],
    [whole.replace('"currency"', "currency"), 400, "MALFORMED_JSON", "postings[0]"],
    [whole.replace('"EUR"', '"EUR'), 400, "MALFORMED_JSON", "postings[0].currency"],
    ["not JSON", 400, "MALFORMED_JSON"],
    ["", 400, MALFORMED],
    ["[]", 400, MALFORMED],
  ]);
});

test("an unknown field", async () => {
  const whole = JSON.stringify(transfer());
  await refuseAll("transfers", [
    [whole.replace("amount_minor_units", "amout"), 400, "UNKNOWN_FIELD", "postings[0].amout"],
    [transfer({ fee: "1" }), 400, "UNKNOWN_FIELD", "postings[0].fee"],
    [transfer({}, { note: "lunch" }), 400, "UNKNOWN_FIELD", "note"],
    [transfer({}, { memo: "a", Memo: "b" }), 400, "UNKNOWN_FIELD", "Memo"],
    [whole.replace('"EUR"', '"EUR","currency":"EUR"'), 400, "DUPLICATE_FIELD", "postings[0].currency"],
  ]);
  await refuseAll("transfers:batch", [
    [{ transfers: [transfer(), transfer({ ammount: 1 })] }, 400, "UNKNOWN_FIELD", "transfers[1].postings[0].ammount"],
  ]);
  await refuseAll("accounts", [
    [{ owner_id: OWNER, currency: "EUR", kind: "WALLET", overdraft: "5" }, 400, "UNKNOWN_FIELD", "overdraft"],
  ]);
  await refuseQueries([
    [`${LEDGER}/accounts/${payer}?fields=all`, 400, "UNKNOWN_FIELD", "fields"],
    [`${HISTORY}/entries?acount_id=${payer}`, 400, "UNKNOWN_FIELD", "acount_id"],
  ]);
});

test("a hold or a capture that is malformed", async () => {
  const hold = (change: object) => ({ ...posting(), ...change });
  await refuseAll("holds", [
    [hold({ amount_minor_units: "0" }), 400, MALFORMED, "amount_minor_units"],
    [hold({ amount_minor_units: 1.5 }), 400, MALFORMED, "amount_minor_units"],
    [hold({ debit_account_id: "system:cash" }), 400, MALFORMED, "debit_account_id"],
    [hold({ credit_account_id: payer }), 400, MALFORMED, "credit_account_id"],
    [hold({ credit_account_id: UNKNOWN_ACCOUNT }), 404, "ACCOUNT_NOT_FOUND", "credit_account_id"],
    [hold({ expire_time: "tomorrow" }), 400, MALFORMED, "expire_time"],
    [hold({ amount: "5" }), 400, "UNKNOWN_FIELD", "amount"],
  ]);
  const unknown = `holds/${newId("hold", BUCKET)}`;
  await refuseAll(`${unknown}:capture`, [
    [{}, 404, "HOLD_NOT_FOUND"],
    [{ amount_minor_units: "0" }, 400, MALFORMED, "amount_minor_units"],
    [{ final: "yes" }, 400, MALFORMED, "final"],
    [{ hold_id: "hold_1" }, 400, "UNKNOWN_FIELD", "hold_id"],
  ]);
  await refuseAll(`${unknown}:void`, [[{}, 404, "HOLD_NOT_FOUND"]]);
  await refuseAll(`holds/${payer}:void`, [[{}, 400, MALFORMED, "hold_id"]]);
  await refuseQueries([
    [`${LEDGER}/${unknown}`, 404, "HOLD_NOT_FOUND"],
    [`${LEDGER}/holds/hold_1`, 400, MALFORMED, "hold_id"],
  ]);
});

test("an unknown enum value", async () => {
  await refuseAll("accounts", [
    [{ owner_id: OWNER, currency: "EUR", kind: "BOGUS" }, 400, MALFORMED, "kind"],
    [{ owner_id: OWNER, currency: "EUR", kind: "wallet" }, 400, MALFORMED, "kind"],
    [{ owner_id: OWNER, currency: "EUR", kind: 99 }, 400, MALFORMED, "kind"],
    [{ owner_id: OWNER, currency: "EUR", kind: "KIND_UNSPECIFIED" }, 400, MALFORMED, "kind"],
    [{ owner_id: OWNER, currency: "EUR" }, 400, MALFORMED, "kind"],
  ]);
});

test("a wrong type", async () => {
  await refuseAll("transfers", [
    [transfer({ currency: 978 }), 400, MALFORMED, "postings[0].currency"],
    [transfer({ debit_account_id: { id: payer } }), 400, MALFORMED, "postings[0].debit_account_id"],
    [{ postings: posting() }, 400, MALFORMED, "postings"],
    [transfer({}, { memo: ["lunch"] }), 400, MALFORMED, "memo"],
    [transfer({}, { metadata: { a: 1 } }), 400, MALFORMED, "metadata.a"],
    [transfer({}, { effective_time: 1_700_000_000 }), 400, MALFORMED, "effective_time"],
    [transfer({}, { effective_time: "yesterday" }), 400, MALFORMED, "effective_time"],
    [withAmount("true"), 400, MALFORMED, AMOUNT],
    [withAmount('"five"'), 400, MALFORMED, AMOUNT],
    [withAmount("{}"), 400, MALFORMED, AMOUNT],
  ]);
  await refuseAll("accounts", [
    [{ owner_id: OWNER, currency: "EUR", kind: "WALLET", unbounded: "yes" }, 400, MALFORMED, "unbounded"],
  ]);
  await refuseQueries([
    [`${LEDGER}/accounts/${payer}/entries?page_size=many`, 400, MALFORMED, "page_size"],
    [`${HISTORY}/entries?from=2026`, 400, MALFORMED, "from"],
  ]);
});

test("an amount that is no positive 64-bit integer", async () => {
  const amounts = [
    "0",
    '"0"',
    "null",
    "-1",
    '"-1"',
    "1.5",
    '"1.5"',
    "1e2",
    "9223372036854775808",
    '"9223372036854775808"',
  ];
  await refuseAll(
    "transfers",
    amounts.map((amount) => [withAmount(amount), 400, MALFORMED, AMOUNT] as const),
  );
  // The largest that fits is well formed: it is the money that is missing.
  const { status, text } = await rest(`${LEDGER}/transfers`, {
    body: withAmount("9223372036854775807"),
    headers: { "idempotency-key": newKey() },
  });
  assert.equal(status, 400);
  assert.match(text, /INSUFFICIENT_FUNDS/);
});

test("an unknown currency", async () => {
  await refuseAll("transfers", [
    [transfer({ currency: "EUX" }), 400, MALFORMED, "postings[0].currency"],
    [transfer({ currency: "eur" }), 400, MALFORMED, "postings[0].currency"],
    [transfer({ currency: "" }), 400, MALFORMED, "postings[0].currency"],
  ]);
  await refuseAll("accounts", [[{ owner_id: OWNER, currency: "ZZZ", kind: "WALLET" }, 400, MALFORMED, "currency"]]);
});

test("an unknown id, or none", async () => {
  await refuseAll("transfers", [
    [transfer({ credit_account_id: UNKNOWN_ACCOUNT }), 404, "ACCOUNT_NOT_FOUND", "postings[0].credit_account_id"],
    [transfer({ debit_account_id: UNKNOWN_ACCOUNT }), 404, "ACCOUNT_NOT_FOUND", "postings[0].debit_account_id"],
    [transfer({ credit_account_id: "acct_nobody" }), 400, MALFORMED, "postings[0].credit_account_id"],
    [transfer({ credit_account_id: UNKNOWN_TRANSFER }), 400, MALFORMED, "postings[0].credit_account_id"],
    [transfer({ credit_account_id: "system:No Such" }), 400, MALFORMED, "postings[0].credit_account_id"],
    [transfer({ credit_account_id: undefined }), 400, MALFORMED, "postings[0].credit_account_id"],
    [{ postings: [] }, 400, MALFORMED, "postings"],
  ]);
  await refuseAll("accounts", [[{ owner_id: "bob", currency: "EUR", kind: "WALLET" }, 400, MALFORMED, "owner_id"]]);
  await refuseQueries([
    [`${LEDGER}/accounts/${UNKNOWN_ACCOUNT}`, 404, "ACCOUNT_NOT_FOUND"],
    [`${LEDGER}/accounts/${UNKNOWN_ACCOUNT}/entries`, 404, "ACCOUNT_NOT_FOUND"],
    [`${LEDGER}/transfers/${UNKNOWN_TRANSFER}`, 404, "TRANSFER_NOT_FOUND"],
    [`${LEDGER}/accounts/nobody`, 400, MALFORMED, "account_id"],
    [`${LEDGER}/transfers/${payer}`, 400, MALFORMED, "transfer_id"],
    [`${HISTORY}/entries?account_id=nobody`, 400, MALFORMED, "account_id"],
  ]);
});

test("the debit account as the credit account", async () => {
  await refuseAll("transfers", [
    [transfer({ credit_account_id: payer }), 400, MALFORMED, "postings[0].credit_account_id"],
    [{ postings: [posting(), posting({ debit_account_id: payee })] }, 400, MALFORMED, "postings[1].credit_account_id"],
  ]);
});

test("strings that are too long, and too many pairs", async () => {
  const pairs = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"]));
  await refuseAll("transfers", [
    [transfer({}, { memo: "x".repeat(141) }), 400, MALFORMED, "memo"],
    [transfer({}, { memo: "line\nbreak" }), 400, MALFORMED, "memo"],
    [transfer({}, { memo: "nul\u0000" }), 400, MALFORMED, "memo"],
    [transfer({}, { type: "x".repeat(41) }), 400, MALFORMED, "type"],
    [transfer({}, { type: "Not This" }), 400, MALFORMED, "type"],
    [transfer({}, { metadata: { k: "v".repeat(201) } }), 400, MALFORMED, "metadata.k"],
    [transfer({}, { metadata: { ["k".repeat(41)]: "v" } }), 400, MALFORMED, "metadata"],
    [transfer({}, { metadata: pairs(17) }), 400, MALFORMED, "metadata"],
    [{ postings: Array.from({ length: 101 }, () => posting()) }, 400, MALFORMED, "postings"],
  ]);
  await refuseAll("accounts", [
    [{ owner_id: OWNER, currency: "EUR", kind: "WALLET", reference: "x".repeat(65) }, 400, MALFORMED, "reference"],
  ]);
  for (const key of ["k".repeat(129), "with space", undefined]) {
    const headers: Record<string, string> = key === undefined ? {} : { "idempotency-key": key };
    const error = errorOf(await rest(`${LEDGER}/transfers`, { body: JSON.stringify(transfer()), headers }));
    const reason = key === undefined ? "IDEMPOTENCY_KEY_REQUIRED" : "IDEMPOTENCY_KEY_MALFORMED";
    assert.deepEqual([error.status, error.reason, ...error.fields], [400, reason, "idempotency_key"]);
  }
});

test("rates, quotes and conversions that make no sense", async () => {
  const rate = (change: object) => ({
    rates: [{ base: "EUR", quote: "USD", rate: "1.1", as_of: "2026-01-01T00:00:00Z", ...change }],
  });
  await refuseAll("rates", [
    [rate({ rate: "1,1" }), 400, MALFORMED, "rates[0].rate"],
    [rate({ rate: 1.1 }), 400, MALFORMED, "rates[0].rate"],
    [rate({ rate: "-1" }), 400, MALFORMED, "rates[0].rate"],
    [rate({ quote: "EUR" }), 400, MALFORMED, "rates[0].quote"],
    [rate({ spread_bps: 5_001 }), 400, MALFORMED, "rates[0].spread_bps"],
    [rate({ as_of: undefined }), 400, MALFORMED, "rates[0].as_of"],
    [rate({ as_off: "now" }), 400, "UNKNOWN_FIELD", "rates[0].as_off"],
    [{ rates: [] }, 400, MALFORMED, "rates"],
  ]);
  const quote = (change: object) => ({ sell_currency: "EUR", buy_currency: "USD", sell_minor_units: "5", ...change });
  await refuseAll("quotes", [
    [quote({ buy_currency: "EUR" }), 400, MALFORMED, "buy_currency"],
    [quote({ sell_minor_units: "0" }), 400, MALFORMED, "sell_minor_units"],
    [quote({ sell_minor_units: undefined }), 400, MALFORMED, "sell_minor_units"],
    [quote({ debit_account_id: "system:cash" }), 400, MALFORMED, "debit_account_id"],
  ]);
  const unknownQuote = newId("quot", BUCKET);
  const conversion = { quote_id: unknownQuote, debit_account_id: payer, credit_account_id: payee };
  await refuseAll("conversions", [
    [conversion, 404, "QUOTE_NOT_FOUND"],
    [{ ...conversion, quote_id: payer }, 400, MALFORMED, "quote_id"],
    [{ ...conversion, credit_account_id: payer }, 400, MALFORMED, "credit_account_id"],
    [{ ...conversion, amount: "5" }, 400, "UNKNOWN_FIELD", "amount"],
  ]);
  await refuseQueries([
    [`${LEDGER}/quotes/${unknownQuote}`, 404, "QUOTE_NOT_FOUND"],
    [`${LEDGER}/quotes/${payer}`, 400, MALFORMED, "quote_id"],
  ]);
});

test("an expired quote, a used quote, and an amount that converts to zero", async () => {
  await setRate("EUR", "HKD", "9.1");
  const { accountId: dollars } = await openAccount({ ownerId: OWNER, currency: "HKD" });
  const refuse = async (path: string, body: object, reason: string) => {
    const headers = { "idempotency-key": newKey() };
    const error = errorOf(await rest(`${LEDGER}/${path}`, { body: JSON.stringify(body), headers }));
    assert.deepEqual([error.status, error.code, error.reason, error.fields], [400, 9, reason, []]);
  };
  const pair = { sell_currency: "HKD", buy_currency: "EUR" };
  await refuse("quotes", { ...pair, sell_minor_units: "9" }, "CONVERTS_TO_ZERO");
  const [late, used] = [await quoteOf("EUR", "HKD", { sell: 5n }), await quoteOf("EUR", "HKD", { sell: 5n })];
  await changeQuote(late.quoteId, "expire_time = clock_timestamp()");
  await convert(used.quoteId, payer, dollars);
  const accounts = { debit_account_id: payer, credit_account_id: dollars };
  await refuse("conversions", { ...accounts, quote_id: late.quoteId }, "QUOTE_EXPIRED");
  await refuse("conversions", { ...accounts, quote_id: used.quoteId }, "QUOTE_USED");
});

test("a page size out of range", async () => {
  for (const list of [`${LEDGER}/accounts/${payer}/entries?`, `${HISTORY}/entries?`, `${HISTORY}/transfers?`]) {
    await refuseQueries([
      [`${list}page_size=-1`, 400, MALFORMED, "page_size"],
      [`${list}page_size=501`, 400, MALFORMED, "page_size"],
      [`${list}page_size=2147483648`, 400, MALFORMED, "page_size"],
    ]);
  }
});

test("a page token of another list, or of nobody", async () => {
  const other = (await openAccount({ ownerId: OWNER })).accountId;
  const paid = await rest(`${LEDGER}/transfers`, {
    body: JSON.stringify(transfer()),
    headers: { "idempotency-key": newKey() },
  });
  assert.equal(paid.status, 200);
  const readAfter = { "x-read-after": paid.headers.get("x-ledger-position") ?? "" };
  const lists: [own: string, foreign: string][] = [
    [`${LEDGER}/accounts/${payer}/entries?page_size=1`, `${LEDGER}/accounts/${other}/entries?page_size=1`],
    [`${HISTORY}/entries?page_size=1&account_id=${payer}`, `${HISTORY}/entries?page_size=1&account_id=${other}`],
    [`${HISTORY}/entries?page_size=1&account_id=${payer}`, `${HISTORY}/transfers?page_size=1&account_id=${payer}`],
  ];
  for (const [own, foreign] of lists) {
    let page = await rest(own, { headers: readAfter });
    // A query waits two seconds for the projection, which other tests keep busy.
    while (page.text.includes('"PROJECTION_BEHIND"')) page = await rest(own, { headers: readAfter });
    assert.equal(page.status, 200, page.text);
    const token = encodeURIComponent((JSON.parse(page.text) as { next_page_token: string }).next_page_token);
    assert.notEqual(token, "");
    assert.equal((await rest(`${own}&page_token=${token}`)).status, 200);
    await refuseQueries([
      [`${foreign}&page_token=${token}`, 400, "PAGE_TOKEN_INVALID", "page_token"],
      [`${own}&page_token=${token.slice(0, -2)}`, 400, "PAGE_TOKEN_INVALID", "page_token"],
      [`${own}&page_token=made-up`, 400, "PAGE_TOKEN_INVALID", "page_token"],
      [`${own}&page_token=${"x".repeat(5_000)}`, 400, "PAGE_TOKEN_INVALID", "page_token"],
    ]);
  }
});
