import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { readContract } from "#gateway/contract.ts";
import { renderOpenApi } from "#gateway/openapi.ts";
import { SERVICES } from "#gateway/render-config.ts";
import { idGenerator, parseId } from "#lib/ids.ts";

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly pattern?: string;
  readonly required?: readonly string[];
  readonly additionalProperties?: unknown;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly enum?: readonly string[];
  readonly properties: Readonly<Record<string, Schema>>;
}

interface Operation {
  readonly operationId: string;
  readonly description: string;
  readonly parameters: readonly { name: string; in: string; required?: boolean; schema: Schema }[];
  readonly requestBody?: { content: { "application/json": { schema: Schema } } };
  readonly responses: Readonly<Record<string, { content?: { "application/json": { schema: Schema } } }>>;
  readonly security: readonly object[];
  readonly "x-ledgermesh-roles": readonly string[];
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
  readonly "x-ledgermesh-reasons": readonly { reason: string; http_statuses: readonly number[] }[];
}

const text = renderOpenApi();
const document = JSON.parse(text) as Document;
const operations = Object.entries(document.paths).flatMap(([path, ofPath]) =>
  Object.entries(ofPath).map(([method, operation]) => ({ path, method, operation })),
);
const operationOf = (id: string) => {
  const found = operations.find(({ operation }) => operation.operationId === id);
  assert.ok(found, id);
  return found.operation;
};
const schemaOf = (name: string) => {
  const schema = document.components.schemas[name];
  assert.ok(schema, name);
  return schema;
};

test("the document has the routes of the gateway, and no other", () => {
  const { routes } = readContract(readFileSync(new URL("../generated/descriptors.binpb", import.meta.url)), SERVICES);
  assert.deepEqual(
    new Set(operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`)),
    new Set(routes.map(({ httpMethod, pathTemplate }) => `${httpMethod} ${pathTemplate}`)),
  );
});

test("whatever it refers to is there", () => {
  const references = [...text.matchAll(/"\$ref": "#\/([^"]+)"/g)].map(([, path]) => path ?? "");
  assert.ok(references.length > 0);
  for (const path of references) {
    const found = path.split("/").reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], document);
    assert.ok(found, path);
  }
});

test("every operation says who may call it, and every error has the one shape", () => {
  for (const { operation } of operations) {
    const roles = operation["x-ledgermesh-roles"];
    assert.ok(roles.length > 0);
    assert.equal(operation.security.length, roles.includes("ANONYMOUS") ? 0 : 1);
    if (!roles.includes("ANONYMOUS")) assert.ok(operation.responses["401"] && operation.responses["403"]);
    assert.notEqual(operation.description, "", operation.operationId);
    for (const status of ["200", "400", "429", "500", "503", "504"]) assert.ok(operation.responses[status], status);
  }
  // Open to anybody, and yet it refuses who sends what is none of ours.
  assert.ok(operationOf("RefreshSession").responses["401"]);
  assert.equal("401" in operationOf("GetJwks").responses, false);
  assert.deepEqual(operationOf("CreateTransfer")["x-ledgermesh-roles"], ["SERVICE", "OPERATOR"]);
});

test("a command has its key, a query of the history its position", () => {
  const header = (id: string, name: string) => operationOf(id).parameters.find((parameter) => parameter.name === name);
  assert.equal(header("CreateTransfer", "Idempotency-Key")?.required, true);
  assert.equal(header("RefreshSession", "Idempotency-Key")?.required, false);
  assert.equal(header("BatchCreateTransfers", "Idempotency-Key"), undefined);
  assert.equal(header("GetTransfer", "Idempotency-Key"), undefined);
  assert.equal(header("ListEntries", "x-read-after")?.in, "header");
  assert.equal("409" in operationOf("CreateTransfer").responses, true);
  assert.equal("409" in operationOf("GetTransfer").responses, false);
});

test("a request is as strict as the service: fields, limits, names", () => {
  const given = schemaOf("ledger.Posting.Given");
  assert.deepEqual(given.required, ["debit_account_id", "credit_account_id", "amount_minor_units", "currency"]);
  assert.equal(given.additionalProperties, false);
  assert.match("9007199254740993", new RegExp(given.properties.amount_minor_units?.pattern ?? "^$"));
  assert.doesNotMatch("0", new RegExp(given.properties.amount_minor_units?.pattern ?? ""));
  const created = schemaOf("ledger.CreateTransferRequest").properties;
  assert.equal(created.memo?.maxLength, 140);
  assert.deepEqual(schemaOf("ledger.CreateAccountRequest").properties.kind?.enum, ["WALLET", "MERCHANT", "SYSTEM"]);
  const pageSize = operationOf("ListEntries").parameters.find(({ name }) => name === "page_size");
  assert.equal(pageSize?.schema.maximum, 500);
});

test("what the path gives is not in the body", () => {
  const body = operationOf("CaptureHold").requestBody?.content["application/json"].schema;
  assert.ok(body?.properties);
  assert.equal("hold_id" in body.properties, false);
  assert.equal(operationOf("CaptureHold").parameters[0]?.in, "path");
});

test("an answer has every field that has no absence", () => {
  const { required } = schemaOf("ledger.Account");
  assert.ok(required);
  assert.ok(required.includes("posted_minor_units") && required.includes("metadata"));
  assert.equal(required.includes("floor_minor_units"), false);
  assert.equal(required.includes("create_time"), false);
});

test("the pattern of an id takes what the services take, and nothing else", () => {
  const { pattern } = operationOf("GetAccount").parameters[0]?.schema ?? {};
  assert.ok(pattern);
  const accepted = new RegExp(pattern);
  const newId = idGenerator(() => Date.now());
  for (let bucket = 0; bucket < 4096; bucket += 64) assert.match(newId("acct", bucket), accepted);
  fc.assert(fc.property(fc.stringMatching(accepted), (id) => parseId(id, "acct") !== undefined));
  // Of those with the right letters only one in 128 is a UUID of version 7 and variant 10.
  fc.assert(
    fc.property(fc.stringMatching(/^acct_[0-7][0-9a-hjkmnp-tv-z]{25}$/), (id) => {
      assert.equal(accepted.test(id), parseId(id, "acct") !== undefined);
    }),
    { numRuns: 1_000 },
  );
});

test("every reason of docs/errors.md is there with its status", () => {
  const page = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");
  const reasons = document["x-ledgermesh-reasons"];
  assert.equal(reasons.length, [...page.matchAll(/^\| `/gm)].length);
  assert.deepEqual(reasons.find(({ reason }) => reason === "OUTCOME_UNKNOWN")?.http_statuses, [504, 502]);
});
