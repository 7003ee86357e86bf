import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type { CreateAccountRequest, CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { errorOf, type RestError, rest } from "#tests/rest.ts";

/** check-body.lua inside a real Envoy, in front of services that take everything. */

const HIGHEST_INT64 = 2n ** 63n - 1n;
const INVALID_ARGUMENT = 3;
const RUNS = 100;
let gateway: GatewayProcess;

before(async () => {
  gateway = await startGateway();
});

after(() => gateway.stop());

type Body = string | Uint8Array<ArrayBuffer>;

const withAmount = (amount: string) => `{"postings":[{"currency":"EUR"},{"amount_minor_units":${amount}}]}`;
const AMOUNT = "postings[1].amount_minor_units";

const send = (body: Body, collection: string) => rest(`${gateway.url}/v1/ledger/${collection}`, { body });

async function refusal(body: Body, collection = "transfers"): Promise<RestError> {
  const seenBefore = gateway.seen.length;
  const error = errorOf(await send(body, collection));
  assert.deepEqual([error.status, error.code], [400, INVALID_ARGUMENT]);
  assert.equal(gateway.seen.length, seenBefore, "the call reached the service");
  return error;
}

/** What the service saw of it. */
async function accepted<Request>(body: string, collection = "transfers"): Promise<Request> {
  const answer = await send(body, collection);
  assert.equal(answer.status, 200, `${body}: ${answer.text}`);
  return gateway.seen.at(-1)?.request as Request;
}

test("an unknown field is refused with its path, and the name that was meant", async () => {
  const cases: [body: string, field: string, meant: string | undefined][] = [
    ['{"postings":[{"currency":"EUR"},{"amout":"5"}]}', "postings[1].amout", "amount_minor_units"],
    ['{"postings":[{"amount":"5"}]}', "postings[0].amount", "amount_minor_units"],
    ['{"postings":[{"debitAcountId":"acct_x"}]}', "postings[0].debitAcountId", undefined],
    ['{"postings":[{"debit_acount_id":"acct_x"}]}', "postings[0].debit_acount_id", "debit_account_id"],
    ['{"mmeo":"x"}', "mmeo", "memo"],
    ['{"Memo":"x"}', "Memo", "memo"],
    ['{"memo ":"x"}', "memo ", "memo"],
    ['{"":1}', "", undefined],
    ['{"postings":null,"colour":{"of":["any",{"kind":null}]}}', "colour", undefined],
    ['{"\\u0066oo\\n\\"":1}', 'foo\n"', undefined],
    ['{"größe":1}', "größe", undefined],
    [`{"${"ä".repeat(300)}":1}`, `${"ä".repeat(32)}…`, undefined],
    [`{"${"\\u0061".repeat(1_000)}":1}`, `${"\\u0061".repeat(10)}\\u00…`, undefined],
  ];
  for (const [body, field, meant] of cases) {
    const error = await refusal(body);
    assert.equal(error.reason, "UNKNOWN_FIELD", body);
    assert.deepEqual(error.fields, field === "" ? [] : [field]);
    if (field === "") continue;
    assert.equal(error.description, `there is no such field${meant === undefined ? "" : `; did you mean ${meant}?`}`);
    assert.equal(error.message, `${field}: ${error.description}`);
  }
});

test("an integer is taken exactly, as a number or as a string, up to the ends of its range", async () => {
  for (const amount of [0n, 5n, -3n, 2n ** 53n + 1n, HIGHEST_INT64, -HIGHEST_INT64 - 1n]) {
    for (const written of [`${amount}`, `"${amount}"`]) {
      const { postings } = await accepted<CreateTransferRequest>(withAmount(written));
      assert.equal(postings[1]?.amountMinorUnits, amount, written);
    }
  }
  for (const zero of ["null", "-0", '"-0"', '"\\u0030"']) {
    const { postings } = await accepted<CreateTransferRequest>(withAmount(zero));
    assert.equal(postings[1]?.amountMinorUnits, 0n, zero);
  }
});

test("what is no integer in range is refused by field", async () => {
  const malformed = [
    "1.5",
    "1.0",
    "1e3",
    '"abc"',
    '""',
    '" 5"',
    '"5 "',
    '"1.5"',
    '"1e3"',
    '"+5"',
    '"05"',
    '"0x5"',
    '"-"',
  ];
  const outOfRange = ["9223372036854775808", "-9223372036854775809", "1".repeat(400)];
  const mistyped = ["true", "false", "{}", "[]", "[5]"];
  for (const amount of [...malformed, ...outOfRange, ...outOfRange.map((digits) => `"${digits}"`), ...mistyped]) {
    const error = await refusal(withAmount(amount));
    assert.deepEqual([error.reason, error.fields], ["MALFORMED_REQUEST", [AMOUNT]], amount);
    if (outOfRange.includes(amount))
      assert.match(error.description, /from -9223372036854775808 to 9223372036854775807/);
  }
});

test("a value of another type is refused by field, with both types", async () => {
  const cases: [body: string, field: string, description: string][] = [
    ['{"postings":{}}', "postings", "must be an array, not an object"],
    ['{"postings":[[]]}', "postings[0]", "must be an object, not an array"],
    ['{"postings":[{},null]}', "postings[1]", "must be an object, not null"],
    ['{"memo":5}', "memo", "must be a string, not a number"],
    ['{"memo":{}}', "memo", "must be a string, not an object"],
    ['{"memo":["x"]}', "memo", "must be a string, not an array"],
    ['{"metadata":[]}', "metadata", "must be an object, not an array"],
    ['{"metadata":{"a":"1","b":2}}', "metadata.b", "must be a string, not a number"],
    ['{"metadata":{"b":null}}', "metadata.b", "must be a string, not null"],
    ['{"metadata":{"__proto__":"x"}}', "metadata.__proto__", "is no name that a pair may have"],
    ['{"metadata":{"\\u005f_proto__":"x"}}', "metadata.__proto__", "is no name that a pair may have"],
    ['{"effective_time":5}', "effective_time", "must be a time as a string, not a number"],
  ];
  for (const [body, field, description] of cases) {
    const error = await refusal(body);
    assert.deepEqual([error.reason, error.fields, error.description], ["MALFORMED_REQUEST", [field], description]);
  }
  for (const body of ["[]", '"a"', "5", "true", "null"]) {
    const error = await refusal(body);
    assert.deepEqual([error.reason, error.fields], ["MALFORMED_REQUEST", []]);
  }
});

test("an enum is taken by name only, a flag as true or false, and one member of a oneof", async () => {
  const { kind } = await accepted<CreateAccountRequest>('{"kind":"\\u0057ALLET"}', "accounts");
  assert.equal(kind, 1);
  const { floor } = await accepted<CreateAccountRequest>('{"unbounded":null,"floorMinorUnits":-5}', "accounts");
  assert.deepEqual(floor, { $case: "floorMinorUnits", value: -5n });
  const cases: [body: string, field: string, description: RegExp][] = [
    ['{"kind":"BOGUS"}', "kind", /^must be one of WALLET, MERCHANT, SYSTEM$/],
    ['{"kind":"WALET"}', "kind", /; did you mean WALLET\?$/],
    ['{"kind":"wallet"}', "kind", /; did you mean WALLET\?$/],
    ['{"kind":1}', "kind", /not a number$/],
    ['{"unbounded":"true"}', "unbounded", /^must be true or false, not a string$/],
    ['{"unbounded":1}', "unbounded", /not a number$/],
    ['{"unbounded":true,"floor_minor_units":0}', "floor_minor_units", /excludes another field/],
  ];
  for (const [body, field, description] of cases) {
    const error = await refusal(body, "accounts");
    assert.deepEqual([error.reason, error.fields], ["MALFORMED_REQUEST", [field]], body);
    assert.match(error.description, description);
  }
});

test("a time must exist", async () => {
  for (const time of ["2026-01-31T12:00:00Z", "2024-02-29T23:59:59.123+02:00", "0001-01-01T00:00:00Z"]) {
    const { effectiveTime } = await accepted<CreateTransferRequest>(`{"effective_time":"${time}"}`);
    assert.equal(effectiveTime?.getTime(), Date.parse(time));
  }
  const refused = ["", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-32T00:00:00Z"];
  refused.push(
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-01-01 00:00:00Z",
    "2026-01-01T24:00:00Z",
    "0000-01-01T00:00:00Z",
  );
  refused.push(
    "2026-01-01T00:00:60Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00.1234567890Z",
    "2026-01-01T00:00:00+2:00",
  );
  for (const time of refused) {
    const error = await refusal(`{"effective_time":"${time}"}`);
    assert.deepEqual([error.reason, error.fields], ["MALFORMED_REQUEST", ["effective_time"]], time);
  }
});

test("a name twice in one object is refused, however it is written", async () => {
  const cases: [body: string, field: string][] = [
    ['{"memo":"a","type":"b","memo":"a"}', "memo"],
    ['{"memo":null,"memo":"a"}', "memo"],
    ['{"memo":"a","m\\u0065mo":"b"}', "memo"],
    ['{"postings":[{"debit_account_id":"a","debitAccountId":"b"}]}', "postings[0].debit_account_id"],
    ['{"metadata":{"a":"1","\\u0061":"1"}}', "metadata.a"],
  ];
  for (const [body, field] of cases) {
    const error = await refusal(body);
    assert.deepEqual([error.reason, error.fields], ["DUPLICATE_FIELD", [field]], body);
  }
});

test("what is no JSON is refused with the place", async () => {
  const bodies = [
    "{",
    "}",
    "{]",
    '{"memo"',
    '{"memo":',
    '{"memo":"',
    '{"memo":"x"',
    '{"memo":"x",',
    '{"memo":"x",}',
    "{,}",
  ];
  bodies.push(
    '{"memo":"x"}}',
    '{"memo":"x"} {}',
    '{"memo":"x" "type":"y"}',
    '{"memo" "x"}',
    "{memo:1}",
    "{'memo':'x'}",
  );
  bodies.push(
    '{"memo":nul}',
    '{"memo":nulll}',
    '{"memo":undefined}',
    '{"postings":[}',
    '{"postings":[{},]}',
    '{"postings":[{}',
  );
  bodies.push(
    '{"memo":"\\x"}',
    '{"memo":"\\u12"}',
    '{"memo":"\\ud800"}',
    '{"memo":"\\udc00"}',
    '{"memo":"\\ud800\\u0041"}',
  );
  bodies.push(
    '{"memo":"a\nb"}',
    '{"memo":"a\tb"}',
    '{"memo":"a\u0000b"}',
    "{\u00a0}",
    "\ufeff{}",
    "// x\n{}",
    '{"memo":"x"/**/}',
  );
  bodies.push(
    withAmount("05"),
    withAmount("-"),
    withAmount("-x"),
    withAmount("+5"),
    withAmount(".5"),
    withAmount("5x"),
  );
  bodies.push(withAmount("NaN"), withAmount("tru"));
  for (const body of bodies) {
    const error = await refusal(body);
    assert.equal(error.reason, "MALFORMED_JSON", body);
    assert.match(error.message, /not JSON at byte [0-9]+|the JSON ends too early/);
  }
  const badUtf8 = [
    "ff",
    "80",
    "c0af",
    "c328",
    "e28228",
    "e0809f",
    "eda080",
    "f0808080",
    "f4908080",
    "e282",
    "f5808080",
  ];
  for (const hex of badUtf8) {
    const body = Buffer.from(
      `${Buffer.from('{"memo":"').toString("hex")}${hex}${Buffer.from('"}').toString("hex")}`,
      "hex",
    );
    const error = await refusal(new Uint8Array(body));
    assert.deepEqual([error.reason, error.fields], ["MALFORMED_JSON", []], hex);
  }
});

test("a map has a bound of its own", async () => {
  const pairs = (count: number) =>
    `{"metadata":{${Array.from({ length: count }, (_, index) => `"${index}":""`).join(",")}}}`;
  const { metadata } = await accepted<CreateTransferRequest>(pairs(1_000));
  assert.equal(Object.keys(metadata).length, 1_000);
  assert.deepEqual((await refusal(pairs(1_001))).fields, ["metadata"]);
});

// Requests at random, and JSON at random for each: spaces, escapes, order, either form of the names.

const text = fc.string({ unit: "grapheme", maxLength: 12 });
const posting = fc.record(
  {
    debitAccountId: text,
    creditAccountId: text,
    amountMinorUnits: fc.bigInt({ min: -HIGHEST_INT64 - 1n, max: HIGHEST_INT64 }),
    currency: text,
  },
  { noNullPrototype: true },
);
const transfer = fc.record(
  {
    postings: fc.array(posting, { maxLength: 4 }),
    type: text,
    memo: text,
    // __proto__ is refused: see above.
    metadata: fc.dictionary(
      text.filter((name) => name !== "__proto__"),
      text,
      { maxKeys: 4, noNullPrototype: true },
    ),
    effectiveTime: fc.option(
      fc.date({ min: new Date(0), max: new Date("2999-01-01T00:00:00Z"), noInvalidDate: true }),
      {
        nil: undefined,
      },
    ),
    group: text,
  },
  { noNullPrototype: true },
);
const choices = fc.infiniteStream(fc.nat());

/** Writes a value as JSON; every freedom is taken by the next choice. */
function write(value: unknown, next: () => number, withinMap = false): string {
  const space = () => ["", "", " ", "\n", "\t", "\r\n  "][next() % 6] ?? "";
  if (typeof value === "bigint") return next() % 2 === 0 ? `${value}` : `"${value}"`;
  if (typeof value === "string") return writeString(value, next);
  if (value instanceof Date) return `"${value.toISOString()}"`;
  if (value === undefined) return "null";
  if (Array.isArray(value)) {
    return `[${space()}${value.map((element) => `${write(element, next)}${space()}`).join(`,${space()}`)}]`;
  }
  const pairs = Object.entries(value as object).map(([key, element], index, all) => {
    const isMap = key === "metadata" && !withinMap;
    const name = withinMap || next() % 2 === 0 ? key : key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const comma = index < all.length - 1 ? "," : "";
    return `${space()}${writeString(name, next)}${space()}:${space()}${write(element, next, isMap)}${space()}${comma}`;
  });
  return `{${pairs.join("")}${space()}}`;
}

function writeString(value: string, next: () => number): string {
  const escaped = Array.from({ length: value.length }, (_, index) => {
    const unit = value.charCodeAt(index);
    const isSurrogate = unit >= 0xd800 && unit < 0xe000;
    const mustEscape = unit < 32 || unit === 34 || unit === 92;
    if (mustEscape || (!isSurrogate && next() % 9 === 0)) return `\\u${unit.toString(16).padStart(4, "0")}`;
    return value[index];
  });
  return `"${escaped.join("")}"`;
}

test("whatever the JSON of a request looks like, it passes and means the same", async () => {
  await fc.assert(
    fc.asyncProperty(transfer, choices, async (request, stream) => {
      const body = write(request, () => stream.next().value ?? 0);
      const { idempotencyKey, ...seen } = await accepted<CreateTransferRequest>(body);
      assert.deepEqual([seen, idempotencyKey], [request, ""]);
    }),
    { numRuns: RUNS },
  );
});

test("one unknown name anywhere is found, with its path", async () => {
  await fc.assert(
    fc.asyncProperty(transfer, fc.nat(), choices, async (request, where, stream) => {
      const place = where % (request.postings.length + 1);
      const extended = structuredClone(request) as Record<string, unknown> & { postings: Record<string, unknown>[] };
      const target = place === 0 ? extended : (extended.postings[place - 1] as Record<string, unknown>);
      target.surcharge = [{ any: 1n }];
      const error = await refusal(write(extended, () => stream.next().value ?? 0));
      const path = place === 0 ? "surcharge" : `postings[${place - 1}].surcharge`;
      assert.deepEqual([error.reason, error.fields], ["UNKNOWN_FIELD", [path]]);
    }),
    { numRuns: RUNS },
  );
});

test("a damaged body is refused, or still JSON", async () => {
  await fc.assert(
    fc.asyncProperty(transfer, fc.nat(), fc.constantFrom("cut", "drop", "double"), async (request, where, damage) => {
      const body = write(request, () => 0);
      const at = where % body.length;
      const [head, tail] = [body.slice(0, at), body.slice(at)];
      const damaged =
        damage === "cut" ? head : damage === "drop" ? head + tail.slice(1) : head + tail.slice(0, 1) + tail;
      const answer = await send(damaged, "transfers");
      if (answer.status === 200) JSON.parse(damaged);
      else assert.equal(errorOf(answer).status, 400);
    }),
    { numRuns: RUNS },
  );
});
