import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Operation,
  operations,
  type Parts,
  requestOf,
  resolved,
  type Schema,
  sampleOf,
} from "#tests/openapi-requests.ts";
import { errorOf, type RestAnswer, rest } from "#tests/rest.ts";
import { signIn, signUp } from "#tests/users.ts";

/**
 * The limits that the contract tells clients (gateway/openapi.json, from the options of its fields) are those of the services, which
 * parse by hand: the last value that fits is not refused for its field, and the first that does not fit is.
 */

interface Case {
  /** Path of the field, as errors name it. */
  readonly field: string;
  readonly what: string;
  readonly fits: boolean;
  readonly parts: Parts;
}

type Put = (value: unknown) => Parts;

/** Fields that a request takes only beside others, which the made-up ones do not have. */
const TAKEN_BESIDE_OTHERS = [
  "BatchCreateAccounts accounts[0].idempotency_key",
  "CreateTransfer group",
  "CreateFundingSource expiry_month",
  "CreateFundingSource expiry_year",
];
const longest = (length: number) => "é".repeat(length);
const [BELOW_INT32, ABOVE_INT32] = [-(2 ** 31) - 1, 2 ** 31];

/** Of one field: values at and beyond each limit of its schema. */
function limitsOf(name: string, given: Schema): [what: string, value: unknown, fits: boolean][] {
  const schema = resolved(given);
  const found: [string, unknown, boolean][] = [];
  const { type, maxLength, minLength, maximum, minimum, maxItems, minItems, maxProperties, pattern } = schema;
  const isLine = pattern?.startsWith("^[^\\u0000") === true;
  if (maxLength !== undefined) {
    if (pattern === undefined || isLine)
      found.push([`${maxLength} characters`, longest(maxLength), name !== "owner_id"]);
    found.push([`more than ${maxLength} characters`, longest(maxLength + 1), false]);
  }
  if (minLength !== undefined && minLength > 1) found.push(["too short", longest(minLength - 1), false]);
  if (isLine) found.push(["a line break", "a\nb", false]);
  else if (pattern !== undefined && type === "string") {
    found.push(["another pattern", "a b", false], ["as the pattern says", sampleOf(schema, name), true]);
    const repeated = /^\^\[([^\]]+)\]\{1,(\d+)\}\$$/.exec(pattern);
    if (repeated !== null) {
      const letter = /[A-Za-z]/.exec(repeated[1] ?? "")?.[0].toLowerCase() ?? "a";
      found.push(["longest", letter.repeat(Number(repeated[2])), true]);
      found.push(["one too long", letter.repeat(Number(repeated[2]) + 1), false]);
    }
  }
  if (type === "integer") {
    found.push([`above ${maximum}`, (maximum ?? 0) + 1, false], [`${maximum}`, maximum, true]);
    found.push([`below ${minimum}`, (minimum ?? 0) - 1, false], [`${minimum}`, minimum, true]);
    found.push(["no int32", BELOW_INT32, false], ["no int32", ABOVE_INT32, false]);
  }
  if (schema.format === "int64") {
    found.push(["above int64", "9223372036854775808", false], ["a fraction", "1.5", false]);
    if (pattern?.startsWith("^[1-9]") === true) found.push(["zero", "0", false], ["below zero", "-1", false]);
    if (pattern?.startsWith("^(0|-[1-9]") === true) found.push(["above zero", "1", false], ["zero", "0", true]);
  }
  const items = (length: number) => Array.from({ length }, () => sampleOf(schema.items ?? {}, ""));
  if (maxItems !== undefined)
    found.push([`${maxItems} elements`, items(maxItems), true], ["one more", items(maxItems + 1), false]);
  if (minItems !== undefined && minItems > 0) found.push(["too few elements", items(minItems - 1), false]);
  if (maxProperties !== undefined) {
    const pairs = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"]));
    found.push(
      [`${maxProperties} pairs`, pairs(maxProperties), true],
      ["one pair more", pairs(maxProperties + 1), false],
    );
    const { maxLength: key = 0 } = schema.propertyNames ?? {};
    const { maxLength: value = 0 } = schema.additionalProperties || {};
    found.push(["longest key and value", { [longest(key)]: longest(value) }, true]);
    found.push(
      ["a key too long", { [longest(key + 1)]: "" }, false],
      ["a value too long", { k: longest(value + 1) }, false],
    );
    found.push(["an empty key", { "": "v" }, false], ["a line break", { k: "a\nb" }, false]);
  }
  return found;
}

/** The cases of a schema's fields, at any depth. `put` puts an object there into a whole request. */
function casesOf(schema: Schema, path: string, put: Put): Case[] {
  const base = sampleOf(schema, "") as Record<string, unknown>;
  return Object.entries(schema.properties ?? {}).flatMap(([name, given]): Case[] => {
    const field = path === "" ? name : `${path}.${name}`;
    const inner = resolved(given);
    const element = inner.items && resolved(inner.items);
    const without = Object.fromEntries(Object.entries(base).filter(([key]) => key !== name));
    return [
      ...limitsOf(name, given).map(([what, value, fits]) => ({
        field,
        what,
        fits,
        parts: put({ ...base, [name]: value }),
      })),
      ...(schema.required?.includes(name) === true
        ? [{ field, what: "left out", fits: false, parts: put(without) }]
        : []),
      ...(element?.type === "object"
        ? casesOf(element, `${field}[0]`, (value) => put({ ...base, [name]: [value] }))
        : []),
    ];
  });
}

function casesOfOperation({ id, body, parameters }: Operation): Case[] {
  const ofQuery = parameters
    .filter((parameter) => parameter.in !== "header")
    .flatMap(({ name, schema }) =>
      limitsOf(name, schema).map(([what, value, fits]) => ({
        field: name,
        what,
        fits,
        parts: { parameters: { [name]: String(value) } },
      })),
    );
  const ofBody = body === undefined ? [] : casesOf(body, "", (value) => ({ body: value }));
  return [...ofQuery, ...ofBody].filter(({ field }) => {
    // What is wrong with one transfer of a batch is that one's result; the message is that of CreateTransfer.
    if (id === "BatchCreateTransfers") return field === "transfers";
    return !TAKEN_BESIDE_OTHERS.includes(`${id} ${field}`);
  });
}

/** Whether the answer says that something is wrong with the field, or with a part of it. */
function refusesField(answer: RestAnswer, field: string): boolean {
  if (answer.status !== 400) return false;
  const { fields, reason } = errorOf(answer);
  if (reason === "IDEMPOTENCY_KEY_MALFORMED" && field === "idempotency_key") return true;
  return fields.some(
    (named) => named === field || (named.startsWith(field) && /^[.[]/.test(named.slice(field.length))),
  );
}

/** Whom an operation admits: a user has a password that no request of these tests has. */
async function tokenFor({ roles }: Operation): Promise<string | undefined> {
  if (roles.includes("SERVICE")) return undefined;
  const password = "another sound password";
  user ??= signUp({ password }).then((signedUp) => signIn(signedUp, password));
  return (await user).accessToken;
}

let user: ReturnType<typeof signIn> | undefined;

for (const operation of operations) {
  const cases = casesOfOperation(operation);
  if (cases.length === 0) continue;
  test(`the limits of ${operation.id} are those of its service`, async () => {
    const token = await tokenFor(operation);
    for (const { field, what, fits, parts } of cases) {
      const { url, request } = requestOf(operation, parts);
      // The key of the header would not be that of the field.
      const { "Idempotency-Key": _, ...others } = request.headers;
      const headers = field === "idempotency_key" ? others : request.headers;
      const answer = await rest(url, { ...request, headers, ...(token !== undefined && { token }) });
      assert.ok(answer.status < 500, `${field}, ${what}: ${answer.text}`);
      const exact = fits
        ? answer.status === 400 && errorOf(answer).fields.includes(field)
        : refusesField(answer, field);
      assert.equal(exact, !fits, `${field}, ${what}: ${answer.status} ${answer.text.slice(0, 600)}`);
    }
  });
}
