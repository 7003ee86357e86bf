import { readFileSync } from "node:fs";
import fc from "fast-check";
import { newId, newKey, restUrl } from "#tests/stack.ts";
import { newEmail } from "#tests/users.ts";

/** Requests made from gateway/openapi.json, so that tests of every operation meet new ones too. */

export interface Schema {
  readonly $ref?: string;
  readonly type?: "object" | "array" | "string" | "integer" | "boolean";
  readonly enum?: readonly string[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly propertyNames?: Schema;
  readonly additionalProperties?: Schema | false;
}

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly roles: readonly string[];
  readonly parameters: readonly Parameter[];
  /** Undefined: it takes none. */
  readonly body: Schema | undefined;
}

interface RawOperation {
  readonly operationId: string;
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly content: { readonly "application/json": { readonly schema: Schema } } };
  readonly "x-ledgermesh-roles": readonly string[];
}

const document = JSON.parse(readFileSync(new URL("../gateway/openapi.json", import.meta.url), "utf8")) as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, RawOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
};

/** Of the document, in its order. */
export const operations: readonly Operation[] = Object.entries(document.paths).flatMap(([path, ofPath]) =>
  Object.entries(ofPath).map(([method, operation]) => ({
    id: operation.operationId,
    method: method.toUpperCase(),
    path,
    roles: operation["x-ledgermesh-roles"],
    parameters: operation.parameters,
    body: operation.requestBody && resolved(operation.requestBody.content["application/json"].schema),
  })),
);

/** The schema itself when it is a reference. */
export function resolved(schema: Schema): Schema {
  const name = schema.$ref?.replace("#/components/schemas/", "");
  const found = name === undefined ? schema : document.components.schemas[name];
  if (found === undefined) throw new Error(`gateway/openapi.json has no schema ${name}`);
  return found;
}

/** What a request has: its body, and the parameters of path and query. */
export interface Parts {
  readonly body?: unknown;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** A well-formed request with what is required and no more, and with `parts` instead of its own. */
export function requestOf(operation: Operation, parts: Parts = {}) {
  const values = new Map<string, string>();
  for (const { name, required, schema } of operation.parameters) {
    if (required === true) values.set(name, String(sampleOf(schema, name)));
  }
  for (const [name, value] of Object.entries(parts.parameters ?? {})) values.set(name, value);
  const inside = (place: Parameter["in"]) =>
    operation.parameters.filter((parameter) => parameter.in === place && values.has(parameter.name));
  const encoded = ({ name }: Parameter) => encodeURIComponent(values.get(name) ?? "");
  const path = inside("path").reduce(
    (text, parameter) => text.replace(`{${parameter.name}}`, encoded(parameter)),
    operation.path,
  );
  const query = inside("query").map((parameter) => `${parameter.name}=${encoded(parameter)}`);
  const body = "body" in parts ? parts.body : operation.body && sampleOf(operation.body, "");
  return {
    url: `${restUrl}${path}${query.length === 0 ? "" : `?${query.join("&")}`}`,
    request: {
      method: operation.method,
      headers: Object.fromEntries(inside("header").map(({ name }) => [name, values.get(name) ?? ""])),
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    },
  };
}

/** What no pattern says. */
const SAMPLES: Readonly<Record<string, () => unknown>> = {
  "Idempotency-Key": newKey,
  currency: () => "EUR",
  sell_currency: () => "EUR",
  buy_currency: () => "JMD",
  base: () => "EUR",
  quote: () => "JMD",
  country: () => "CZ",
  email: newEmail,
  rate: () => "22.5",
  as_of: () => new Date().toISOString(),
  password: () => "a sound password",
  current_password: () => "a sound password",
  new_password: () => "another sound one",
  new_email: newEmail,
};

/** A value that the schema takes, of a field of this name. */
export function sampleOf(given: Schema, name: string): unknown {
  const schema = resolved(given);
  const own = SAMPLES[name];
  if (own !== undefined) return own();
  switch (schema.type) {
    case "object":
      return Object.fromEntries(
        (schema.required ?? []).map((key) => [key, sampleOf(schema.properties?.[key] ?? {}, key)]),
      );
    case "array":
      return schema.items === undefined
        ? []
        : Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items as Schema, ""));
    case "integer":
      return Math.max(schema.minimum ?? 0, 0);
    case "boolean":
      return true;
    default:
      return sampleText(schema);
  }
}

function sampleText({ enum: values, format, pattern, minLength = 1 }: Schema): string {
  if (values !== undefined) return values[0] ?? "";
  if (format === "date-time") return new Date().toISOString();
  if (format === "int64") return pattern?.startsWith("^(0|-[1-9]") === true ? "0" : "1";
  const prefix = /^\^\(?([a-z]{3,5})_\[0-7\]/.exec(pattern ?? "")?.[1];
  if (prefix !== undefined) return newId(prefix as "acct", 7);
  if (pattern === undefined || pattern.startsWith("^[^\\u0000")) return "x".repeat(Math.max(minLength, 1));
  return fc.sample(fc.stringMatching(new RegExp(pattern)), 1)[0] ?? "";
}
