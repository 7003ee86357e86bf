import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  fromBinary,
  getExtension,
  hasExtension,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { type FileDescriptorSet, FileDescriptorSetSchema, type MethodDescriptorProto } from "@bufbuild/protobuf/wkt";

/**
 * What the gateway takes from the contract: the routes of the listed services, and what their requests look like in
 * JSON. Whatever the checks in Lua do not know fails here, when the configuration is rendered: nothing passes unchecked.
 */

/** Where the calls of a service go. */
export type ClusterName = "ledger" | "reporting" | "identity";

/**
 * What a call counts as for the rate limits: `sign_in` is every command that needs no token (sign-up, sign-in, refresh),
 * and a `query` is what GET asks for.
 */
export type CallClass = "sign_in" | "command" | "query";

/** A bit marks a field as seen, and Lua's bit operations have 32 of them, one of which is the sign. */
const MAX_FIELDS_PER_MESSAGE = 31;

export interface Route {
  /** `GET`, `POST`, … */
  readonly httpMethod: string;
  /** As in the contract: `/v1/ledger/accounts/{account_id}`. */
  readonly pathTemplate: string;
  /** Full name of the RPC; the checks find their tables by it. */
  readonly rpc: string;
  readonly cluster: ClusterName;
  /** A batch may bring a large body and take long. */
  readonly isBatch: boolean;
  /** Whether the request comes as a body; otherwise it comes as query parameters. */
  readonly hasBody: boolean;
  /** Whether it may be called without a token. A token that is sent must be good all the same. */
  readonly isOpen: boolean;
  readonly callClass: CallClass;
}

/** What may stand at a place. */
export type Shape =
  | { readonly kind: "string" | "int32" | "int64" | "bool" | "timestamp" | "string_map" }
  | { readonly kind: "enum" | "message"; readonly type: string }
  | { readonly kind: "list"; readonly element: Shape };

export interface Field {
  /** snake_case, as errors name it. */
  readonly name: string;
  /** lowerCamelCase, accepted as well. */
  readonly json_name: string;
  /** The field's own bit. */
  readonly bit: number;
  /** The bits of its oneof, its own included; 0 when it is in none. */
  readonly oneof_bits: number;
  readonly shape: Shape;
}

export interface Contract {
  /** The descriptor set without internal RPCs: the transcoder cannot lead to what it has never heard of. */
  readonly publicDescriptorSet: Uint8Array;
  readonly serviceNames: readonly string[];
  readonly routes: readonly Route[];
  /** RPC with a body -> the fields of its request that the path does not give. */
  readonly bodies: Readonly<Record<string, readonly Field[]>>;
  /** RPC without a body -> its query parameters. */
  readonly queries: Readonly<Record<string, readonly Field[]>>;
  /** The messages inside requests, by full name. */
  readonly messages: Readonly<Record<string, readonly Field[]>>;
  /** The names of the values of the enums inside requests, by full name. */
  readonly enums: Readonly<Record<string, readonly string[]>>;
}

interface HttpRule {
  readonly pattern: { readonly case: string | undefined; readonly value: string };
  readonly body: string;
  readonly additionalBindings: readonly HttpRule[];
}

/** Of ledgermesh.options.v1.CallerRule. */
interface CallerRule {
  readonly roles: readonly number[];
  readonly internal: boolean;
}

/**
 * Reads the listed services from a descriptor set, without their internal RPCs. Throws when a service is absent, has what
 * the checks do not know, or has an RPC that does not say who may call it.
 */
export function readContract(descriptorSet: Uint8Array, services: Readonly<Record<string, ClusterName>>): Contract {
  const set = fromBinary(FileDescriptorSetSchema, descriptorSet);
  const options = optionsOf(set);
  for (const service of set.file.flatMap((file) => file.service)) {
    service.method = service.method.filter((method) => !options.callersOf(method).internal);
  }
  const registry = createFileRegistry(set);

  const routes: Route[] = [];
  const bodies: Record<string, readonly Field[]> = {};
  const queries: Record<string, readonly Field[]> = {};
  const types: Types = { messages: {}, enums: {} };

  for (const [serviceName, cluster] of Object.entries(services)) {
    const service = registry.getService(serviceName);
    if (service === undefined) throw new Error(`the descriptor set has no service ${serviceName}`);
    for (const method of service.methods) {
      const rpc = `${serviceName}.${method.name}`;
      const rule = options.httpRuleOf(method.proto);
      if (rule?.pattern.case === undefined) throw new Error(`${rpc} has no HTTP rule`);
      const route = toRoute(rpc, method, rule, cluster, options.callersOf(method.proto));
      routes.push(route);

      const fromPath = [...route.pathTemplate.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const fields = method.input.fields.filter(({ name }) => !fromPath.includes(name));
      if (route.hasBody) bodies[rpc] = toFields(fields, types, [method.input.typeName]);
      else queries[rpc] = toFields(fields, types, []).map(asQueryParameter);
    }
  }
  const publicDescriptorSet = toBinary(FileDescriptorSetSchema, set);
  return { publicDescriptorSet, serviceNames: Object.keys(services), routes, bodies, queries, ...types };
}

/** How the options of an RPC are read, whose types only the descriptor set knows. */
function optionsOf(set: FileDescriptorSet) {
  const registry = createFileRegistry(set);
  const extensionOf = (name: string) => {
    const extension = registry.getExtension(name);
    if (extension === undefined) throw new Error(`the descriptor set has no ${name}`);
    return extension;
  };
  const [http, callers, roles] = [
    extensionOf("google.api.http"),
    extensionOf("ledgermesh.options.v1.callers"),
    registry.getEnum("ledgermesh.options.v1.CallerRole"),
  ];
  const anonymous = roles?.values.find(({ name }) => name === "ANONYMOUS")?.number;
  return {
    httpRuleOf: ({ options }: MethodDescriptorProto) =>
      options && (getExtension(options, http) as unknown as HttpRule | undefined),
    callersOf({ name, options }: MethodDescriptorProto) {
      if (options === undefined || !hasExtension(options, callers)) throw new Error(`${name} has no caller rule`);
      const rule = getExtension(options, callers) as unknown as CallerRule;
      return { internal: rule.internal, admitsAnybody: rule.roles.some((role) => role === anonymous) };
    },
  };
}

interface Types {
  readonly messages: Record<string, readonly Field[]>;
  readonly enums: Record<string, readonly string[]>;
}

function toRoute(
  rpc: string,
  method: DescMethod,
  rule: HttpRule,
  cluster: ClusterName,
  { admitsAnybody }: { readonly admitsAnybody: boolean },
): Route {
  const { case: verb, value: pathTemplate } = rule.pattern;
  if (method.methodKind !== "unary") throw new Error(`${rpc} streams: not known to the gateway`);
  if (verb === undefined || verb === "custom") throw new Error(`${rpc} has a custom HTTP method: not known`);
  if (rule.additionalBindings.length > 0) throw new Error(`${rpc} has additional bindings: not known to the gateway`);
  if (rule.body !== "" && rule.body !== "*") throw new Error(`${rpc} has body "${rule.body}": only "*" is known`);
  if (!/^(\/[\w.-]+|\/\{\w+\})+(:\w+)?$/.test(pathTemplate)) throw new Error(`${rpc}: path ${pathTemplate} not known`);
  return {
    httpMethod: verb.toUpperCase(),
    pathTemplate,
    rpc,
    cluster,
    isBatch: method.name.startsWith("Batch"),
    hasBody: rule.body === "*",
    isOpen: admitsAnybody,
    callClass: verb === "get" ? "query" : admitsAnybody ? "sign_in" : "command",
  };
}

/** `within`: the messages around these fields. A message inside itself is refused, so that the contract bounds depth. */
function toFields(fields: readonly DescField[], types: Types, within: readonly string[]): Field[] {
  if (fields.length > MAX_FIELDS_PER_MESSAGE) {
    throw new Error(`${fields[0]?.parent.typeName} has more than ${MAX_FIELDS_PER_MESSAGE} fields`);
  }
  const bits = new Map(fields.map((field, index) => [field, 2 ** index]));
  return fields.map((field) => ({
    name: field.name,
    json_name: field.jsonName,
    bit: bits.get(field) ?? 0,
    oneof_bits: (field.oneof?.fields ?? []).reduce((sum, member) => sum + (bits.get(member) ?? 0), 0),
    shape: toShape(field, types, within),
  }));
}

function toShape(field: DescField, types: Types, within: readonly string[]): Shape {
  switch (field.fieldKind) {
    case "scalar":
      return scalarShape(field, field.scalar);
    case "enum":
      return enumShape(field.enum, types);
    case "message":
      return messageShape(field.message, types, within);
    case "list":
      switch (field.listKind) {
        case "scalar":
          return { kind: "list", element: scalarShape(field, field.scalar) };
        case "enum":
          return { kind: "list", element: enumShape(field.enum, types) };
        case "message":
          return { kind: "list", element: messageShape(field.message, types, within) };
      }
      break;
    case "map":
      if (field.mapKey === ScalarType.STRING && field.mapKind === "scalar" && field.scalar === ScalarType.STRING) {
        return { kind: "string_map" };
      }
  }
  throw unknownKind(field);
}

function scalarShape(field: DescField, scalar: ScalarType): Shape {
  switch (scalar) {
    case ScalarType.STRING:
      return { kind: "string" };
    case ScalarType.INT64:
      return { kind: "int64" };
    case ScalarType.INT32:
      return { kind: "int32" };
    case ScalarType.BOOL:
      return { kind: "bool" };
    default:
      throw unknownKind(field);
  }
}

function enumShape(type: DescEnum, types: Types): Shape {
  types.enums[type.typeName] = type.values.map(({ name }) => name);
  return { kind: "enum", type: type.typeName };
}

function messageShape(message: DescMessage, types: Types, within: readonly string[]): Shape {
  const type = message.typeName;
  if (type === "google.protobuf.Timestamp") return { kind: "timestamp" };
  if (type.startsWith("google.protobuf.")) throw new Error(`${type} in a request: not known to check-body.lua`);
  if (within.includes(type)) throw new Error(`${type} contains itself: its depth has no bound`);
  types.messages[type] ??= toFields(message.fields, types, [...within, type]);
  return { kind: "message", type };
}

function asQueryParameter(field: Field): Field {
  const { kind } = field.shape;
  if (kind === "message" || kind === "string_map" || kind === "list") {
    throw new Error(`query parameter ${field.name} is a ${kind}: not known to check-query.lua`);
  }
  return field;
}

function unknownKind(field: DescField): Error {
  return new Error(`${field}: this kind of field is not known to check-body.lua`);
}
