import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { commentOf } from "#gateway/openapi-comments.ts";
import { errorSchemas } from "#gateway/openapi-errors.ts";

/**
 * Messages as JSON Schema (draft 2020-12, that of OpenAPI 3.1): requests as strict as the services are, answers as the gateway
 * prints them, with every field that has a value of its own also when it is zero.
 */

export type Json = Readonly<Record<string, unknown>>;
/** Which way a message travels. One that does both has two schemas. */
export type Direction = "request" | "answer";

/** `ledgermesh.options.v1.FieldRule`, as the registry reads it. */
export interface FieldRule {
  readonly required: boolean;
  readonly minimum?: bigint;
  readonly maximum?: bigint;
  readonly minCharacters: number;
  readonly maxCharacters: number;
  readonly minItems: number;
  readonly maxItems: number;
  readonly maxKeyCharacters: number;
  readonly maxValueCharacters: number;
  readonly pattern: string;
  readonly id: string;
  readonly systemAccount: boolean;
  readonly singleLine: boolean;
}

const SINGLE_LINE = "^[^\\u0000-\\u001f\\u007f]*$";
const BASE32 = "[0-9a-hjkmnp-tv-z]";
/** The 26 characters of a TypeID whose UUID has version 7 (`e` or `f` after ten) and variant 10 (three characters on). */
const UUID_V7 = `[0-7]${BASE32}{9}[ef]${BASE32}{2}[89abrstv]${BASE32}{12}`;
const SYSTEM_ACCOUNT = "system:[a-z][a-z0-9_]{0,55}";
const INT64 = "^(0|-?[1-9][0-9]{0,18})$";
const INT64_NOT_ABOVE_ZERO = "^(0|-[1-9][0-9]{0,18})$";
const INT64_ABOVE_ZERO = "^[1-9][0-9]{0,18}$";
const [INT32_LEAST, INT32_MOST] = [-(2 ** 31), 2 ** 31 - 1];

/** Collects the schemas of the messages that operations name, each once. */
export interface Schemas {
  /** The schema of a message without some of its fields: those that the path has. */
  of(message: DescMessage, direction: Direction, without?: readonly string[]): Json;
  ofField(field: DescField, direction: Direction): Json;
  /** By name, in the order of the names. */
  components(): Json;
}

/** `ruleOf` reads the rule of a field. */
export function schemaCollector(ruleOf: (field: DescField) => FieldRule | undefined): Schemas {
  const components = new Map(Object.entries(errorSchemas()));

  const reference = (message: DescMessage, direction: Direction): Json => {
    const { typeName } = message;
    if (typeName === "google.protobuf.Timestamp") return { type: "string", format: "date-time" };
    if (typeName === "google.rpc.Status") return { $ref: "#/components/schemas/Error" };
    if (!typeName.startsWith("ledgermesh.")) throw new Error(`${typeName}: not known to openapi-schemas.ts`);
    const name = componentName(typeName, direction);
    if (!components.has(name)) {
      // Before its fields are read: a message may lead to itself.
      components.set(name, {});
      components.set(name, objectOf(message, direction, []));
    }
    return { $ref: `#/components/schemas/${name}` };
  };

  const objectOf = (message: DescMessage, direction: Direction, without: readonly string[]): Json => {
    const fields = message.fields.filter(({ name }) => !without.includes(name));
    const isRequired = (field: DescField) =>
      direction === "request" ? ruleOf(field)?.required === true : isAlwaysPrinted(field);
    const required = fields.filter(isRequired).map(({ name }) => name);
    return {
      type: "object",
      ...described(commentOf(message)),
      properties: Object.fromEntries(fields.map((field) => [field.name, fieldSchema(field, direction)])),
      ...(required.length > 0 && { required }),
      ...(direction === "request" && { additionalProperties: false }),
    };
  };

  const fieldSchema = (field: DescField, direction: Direction): Json => {
    const rule = direction === "request" ? ruleOf(field) : undefined;
    return { ...shapeOf(field, direction, rule), ...described(fieldText(field, direction)) };
  };

  const shapeOf = (field: DescField, direction: Direction, rule: FieldRule | undefined): Json => {
    switch (field.fieldKind) {
      case "scalar":
        return scalarSchema(field, field.scalar, rule);
      case "enum":
        return enumSchema(field.enum);
      case "message":
        return reference(field.message, direction);
      case "map":
        if (field.mapKind !== "scalar") throw unknownKind(field);
        return mapSchema(scalarSchema(field, field.scalar, undefined), rule);
      case "list":
        return { type: "array", items: itemsOf(field, direction), ...itemBounds(rule, "minItems", "maxItems") };
    }
  };

  const itemsOf = (field: DescField & { fieldKind: "list" }, direction: Direction): Json => {
    if (field.listKind === "message") return reference(field.message, direction);
    return field.listKind === "enum" ? enumSchema(field.enum) : scalarSchema(field, field.scalar, undefined);
  };

  return {
    of: (message, direction, without = []) =>
      without.length > 0 ? objectOf(message, direction, without) : reference(message, direction),
    ofField: fieldSchema,
    components: () => Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

/** `ledgermesh.ledger.v1.Account` is `ledger.Account`; as a part of requests `ledger.Account.Given`. */
function componentName(typeName: string, direction: Direction): string {
  const name = typeName.replace(/^ledgermesh\./, "").replace(/\.v1\./, ".");
  return direction === "request" && !name.endsWith("Request") ? `${name}.Given` : name;
}

/** Fields without presence are printed with their zero; the others only when they are set. */
function isAlwaysPrinted(field: DescField): boolean {
  if (field.fieldKind === "list" || field.fieldKind === "map") return true;
  return field.fieldKind !== "message" && field.oneof === undefined && !field.proto.proto3Optional;
}

function scalarSchema(field: DescField, scalar: ScalarType, rule: FieldRule | undefined): Json {
  switch (scalar) {
    case ScalarType.STRING:
      return { type: "string", ...textRules(rule) };
    case ScalarType.BYTES:
      return { type: "string", format: "byte" };
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.INT32:
      return {
        type: "integer",
        format: "int32",
        minimum: Number(rule?.minimum ?? INT32_LEAST),
        maximum: Number(rule?.maximum ?? INT32_MOST),
      };
    case ScalarType.INT64:
      return { type: "string", format: "int64", pattern: int64Pattern(field, rule) };
    default:
      throw unknownKind(field);
  }
}

function int64Pattern(field: DescField, rule: FieldRule | undefined): string {
  const { minimum, maximum } = rule ?? {};
  if (minimum === undefined && maximum === undefined) return INT64;
  if (minimum === 1n && maximum === undefined) return INT64_ABOVE_ZERO;
  if (minimum === undefined && maximum === 0n) return INT64_NOT_ABOVE_ZERO;
  throw new Error(`${field}: bounds of an int64 that no pattern in openapi-schemas.ts says`);
}

function textRules(rule: FieldRule | undefined): Json {
  if (rule === undefined) return {};
  const { minCharacters, maxCharacters } = rule;
  const minLength = minCharacters > 0 ? minCharacters : rule.required && patternOf(rule) === undefined ? 1 : 0;
  const pattern = patternOf(rule) ?? (rule.singleLine ? SINGLE_LINE : undefined);
  return {
    ...(minLength > 0 && { minLength }),
    ...(maxCharacters > 0 && { maxLength: maxCharacters }),
    ...(pattern !== undefined && { pattern }),
  };
}

function patternOf({ id, systemAccount, pattern }: FieldRule): string | undefined {
  if (id !== "") return systemAccount ? `^(${id}_${UUID_V7}|${SYSTEM_ACCOUNT})$` : `^${id}_${UUID_V7}$`;
  return pattern === "" ? undefined : `^${pattern.includes("|") ? `(${pattern})` : pattern}$`;
}

function mapSchema(values: Json, rule: FieldRule | undefined): Json {
  if (rule === undefined) return { type: "object", additionalProperties: values };
  const { maxKeyCharacters, maxValueCharacters, singleLine } = rule;
  const line = singleLine && { pattern: SINGLE_LINE };
  return {
    type: "object",
    propertyNames: { minLength: 1, ...(maxKeyCharacters > 0 && { maxLength: maxKeyCharacters }), ...line },
    additionalProperties: { ...values, ...(maxValueCharacters > 0 && { maxLength: maxValueCharacters }), ...line },
    ...itemBounds(rule, "minProperties", "maxProperties"),
  };
}

function itemBounds(rule: FieldRule | undefined, least: string, most: string): Json {
  const { minItems = 0, maxItems = 0 } = rule ?? {};
  return { ...(minItems > 0 && { [least]: minItems }), ...(maxItems > 0 && { [most]: maxItems }) };
}

/** Values that are never answered and refused in requests are left out. */
function enumSchema(type: DescEnum): Json {
  const values = type.values.filter(({ name }) => !name.endsWith("_UNSPECIFIED"));
  const lines = values.map((value) => `- \`${value.name}\`: ${commentOf(value)}`);
  return { type: "string", enum: values.map(({ name }) => name), ...described(lines.join("\n")) };
}

/** The comment of a field, and what else there is to know: the values of an enum, the others of its oneof. */
function fieldText(field: DescField, direction: Direction): string {
  const others = field.oneof?.fields.filter((other) => other !== field) ?? [];
  const enumText = field.enum === undefined ? "" : String(enumSchema(field.enum).description ?? "");
  return [
    commentOf(field),
    field.proto.proto3Optional || others.length === 0
      ? ""
      : `${direction === "request" ? "Not together with" : "Absent when there is"} ${others.map(({ name }) => `\`${name}\``).join(", ")}.`,
    enumText,
  ]
    .filter((text) => text !== "")
    .join("\n\n");
}

function described(description: string): Json {
  return description === "" ? {} : { description };
}

function unknownKind(field: DescField): Error {
  return new Error(`${field}: this kind of field is not known to openapi-schemas.ts`);
}
