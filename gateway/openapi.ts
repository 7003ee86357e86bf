import { readFileSync, writeFileSync } from "node:fs";
import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  getOption,
  hasOption,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type Route, readContract } from "#gateway/contract.ts";
import { commentOf, packageCommentOf } from "#gateway/openapi-comments.ts";
import { type ErrorReason, errorResponses, readReasons, sharedErrorResponses } from "#gateway/openapi-errors.ts";
import { type FieldRule, type Json, type Schemas, schemaCollector } from "#gateway/openapi-schemas.ts";
import { SERVICES } from "#gateway/render-config.ts";
import { MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES } from "#gateway/routes.ts";
import { CallerRole, type CallerRule } from "#proto/ledgermesh/options/v1/callers.ts";

/**
 * The OpenAPI document of what the gateway offers, made from the same descriptors and the same list of services as its routes.
 * Deterministic: `make check` holds the committed gateway/openapi.json against it.
 */

const OPENAPI_VERSION = "3.1.0";
const KIB = 1024;
/** What every call may meet, whatever it asks for. */
const COMMON_STATUSES = [400, 408, 429, 431, 500, 502, 503, 504] as const;

/** Reads what `buildOpenApi` needs and answers the document as text, as it is committed. */
export function renderOpenApi(): string {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url));
  const document = buildOpenApi(read("../generated/descriptors.binpb"), read("../docs/errors.md").toString());
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** Throws when the contract has what the document could not say. */
function buildOpenApi(descriptorSet: Uint8Array, errorsPage: string): Json {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptorSet));
  const [ruleOption, callersOption] = ["rule", "callers"].map((name) => {
    const option = registry.getExtension(`ledgermesh.options.v1.${name}`);
    if (option === undefined) throw new Error(`the descriptor set has no option ${name}`);
    return option;
  });
  if (ruleOption === undefined || callersOption === undefined) {
    throw new Error("the descriptor set has no options of ours");
  }
  const ruleOf = (field: DescField) =>
    hasOption(field, ruleOption) ? (getOption(field, ruleOption) as FieldRule) : undefined;
  const schemas = schemaCollector(ruleOf);
  const { routes } = readContract(descriptorSet, SERVICES);
  const reasons = readReasons(errorsPage);

  const paths: Record<string, Record<string, Json>> = {};
  const tags = new Map<string, Json>();
  for (const route of routes) {
    const { service, method } = findMethod(registry, route.rpc);
    const rule = getOption(method, callersOption) as CallerRule;
    if (rule.internal) continue;
    tags.set(tagOf(service), { name: tagOf(service), description: tagText(service) });
    const described = operation(route, service, method, schemas, rule, { ruleOf, reasons });
    paths[route.pathTemplate] = { ...paths[route.pathTemplate], [route.httpMethod.toLowerCase()]: described };
  }
  refuseIdsTwice(paths);

  return {
    openapi: OPENAPI_VERSION,
    info: {
      title: "Ledgermesh",
      version: "1",
      description: `${INTRODUCTION}\n\n${errorsPage.trim()}`,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/", description: "The gateway that serves this document." }],
    tags: [...tags.values()],
    paths,
    components: {
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          bearerFormat: "JWT",
          description:
            "An access token: of a user, merchant or operator by signing in, of a service from the operator. Which roles may call an operation is in its `x-ledgermesh-roles`.",
        },
      },
      schemas: schemas.components(),
      responses: sharedErrorResponses(),
    },
    "x-ledgermesh-reasons": reasons.map(({ reason, status, httpStatuses, meaning }) => ({
      reason,
      status,
      http_statuses: httpStatuses,
      meaning,
    })),
  };
}

const INTRODUCTION =
  `REST is the gRPC contract of \`proto/\`, transcoded by the gateway. JSON uses the contract's field names (snake_case); 64-bit
integers are strings; times are RFC 3339; a field that is not known is refused. Lists take \`page_size\` and \`page_token\` and answer
\`next_page_token\` and \`has_more\`.`.replaceAll("\n", " ");

function findMethod(
  registry: ReturnType<typeof createFileRegistry>,
  rpc: string,
): { service: DescService; method: DescMethod } {
  const dot = rpc.lastIndexOf(".");
  const service = registry.getService(rpc.slice(0, dot));
  const method = service?.methods.find(({ name }) => name === rpc.slice(dot + 1));
  if (service === undefined || method === undefined) throw new Error(`the descriptor set has no ${rpc}`);
  return { service, method };
}

/** `LedgerService` is `Ledger`. */
function tagOf(service: DescService): string {
  return service.name.replace(/Service$/, "");
}

/** What the service and its package say: the fine print of all operations is there. */
function tagText(service: DescService): string {
  return [packageCommentOf(service.file), commentOf(service)].join("\n\n");
}

type RuleOf = (field: DescField) => FieldRule | undefined;

const ROLE_NAMES = new Map<number, string>(Object.entries(CallerRole).map(([name, number]) => [number, name]));

function operation(
  route: Route,
  service: DescService,
  method: DescMethod,
  schemas: Schemas,
  callers: CallerRule,
  { ruleOf, reasons }: { readonly ruleOf: RuleOf; readonly reasons: readonly ErrorReason[] },
): Json {
  const roles = callers.roles.map((role) => ROLE_NAMES.get(role) ?? String(role));
  const text = commentOf(method);
  const isOpen = roles.includes("ANONYMOUS");
  const fromPath = [...route.pathTemplate.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? "");
  const key = method.input.fields.find(({ name }) => name === "idempotency_key");
  const takesKey = key !== undefined;
  return {
    operationId: method.name,
    summary: inWords(method.name),
    description: text,
    tags: [tagOf(service)],
    parameters: [
      ...pathParameters(method.input, fromPath, schemas),
      ...(route.hasBody ? [] : queryParameters(method.input, fromPath, schemas, ruleOf)),
      ...(key === undefined ? [] : [idempotencyKeyHeader(key)]),
      ...(service.file.proto.package.startsWith("ledgermesh.reporting.") ? [READ_AFTER] : []),
    ],
    ...(route.hasBody && {
      requestBody: {
        required: true,
        description: `At most ${(route.isBatch ? MAX_BATCH_BODY_BYTES : MAX_BODY_BYTES) / KIB} KiB.`,
        content: { "application/json": { schema: schemas.of(method.input, "request", fromPath) } },
      },
    }),
    responses: {
      200: {
        description: commentOf(method.output),
        ...answerHeaders(route, service, takesKey),
        content: { "application/json": { schema: schemas.of(method.output, "answer") } },
      },
      ...errorResponses(
        [
          ...COMMON_STATUSES,
          ...statusesNamedIn(text, reasons),
          ...(isOpen ? [] : [401, 403]),
          ...(fromPath.length > 0 || namesResource(method.input, ruleOf) ? [404] : []),
          ...(takesKey ? [409] : []),
          ...(route.hasBody ? [413, 415] : []),
        ].sort((a, b) => a - b),
      ),
    },
    security: isOpen ? [] : [{ bearer: [] }],
    "x-ledgermesh-roles": roles,
    ...(callers.ownerField !== "" && { "x-ledgermesh-owner-field": callers.ownerField }),
    ...(callers.secondFactor && { "x-ledgermesh-second-factor": true }),
  };
}

/** `FreezeAccount` is `Freeze account`. */
function inWords(name: string): string {
  return name.replaceAll(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** The statuses of the reasons that a comment names. */
function statusesNamedIn(text: string, reasons: readonly ErrorReason[]): number[] {
  const named = new Set(text.match(/\b[A-Z]+(_[A-Z]+)+\b/g));
  return reasons.filter(({ reason }) => named.has(reason)).flatMap(({ httpStatuses }) => httpStatuses);
}

function idempotencyKeyHeader(field: DescField): Json {
  return {
    name: "Idempotency-Key",
    in: "header",
    // Some calls cannot be repeated without a key, but can be made.
    required: !commentOf(field).includes("may be left out"),
    description:
      "New for each command and the same for each retry of it: make it unique by itself (a UUID). The field `idempotency_key` of the body does as well; when both are there they must be the same.",
    schema: { type: "string", pattern: "^[!-~]{1,128}$" },
  };
}

const READ_AFTER: Json = {
  name: "x-read-after",
  in: "header",
  description:
    "The `x-ledger-position` of a command: the answer holds what it did. Waits for it, 2 s at most, then 503 `PROJECTION_BEHIND`.",
  schema: { type: "string" },
};

function pathParameters(input: DescMessage, names: readonly string[], schemas: Schemas): Json[] {
  return names.map((name) => {
    const field = input.fields.find((candidate) => candidate.name === name);
    if (field === undefined) throw new Error(`${input.typeName} has no field ${name}, which the path names`);
    return { name, in: "path", required: true, ...parameterSchema(field, schemas) };
  });
}

function queryParameters(input: DescMessage, fromPath: readonly string[], schemas: Schemas, ruleOf: RuleOf): Json[] {
  const fields = input.fields.filter(({ name }) => !fromPath.includes(name));
  return fields.map((field) => ({
    name: field.name,
    in: "query",
    ...(ruleOf(field)?.required === true && { required: true }),
    ...parameterSchema(field, schemas),
  }));
}

/** The description stands beside the schema of a parameter, not inside. */
function parameterSchema(field: DescField, schemas: Schemas): Json {
  const { description, ...schema } = schemas.ofField(field, "request");
  return { description, schema };
}

function answerHeaders(route: Route, service: DescService, takesKey: boolean): Json {
  const isLedgerCommand = route.httpMethod !== "GET" && service.file.proto.package.startsWith("ledgermesh.ledger.");
  const headers: Record<string, Json> = {};
  if (isLedgerCommand) {
    headers["x-ledger-position"] = {
      description: "How far the ledger was with this command: a query of the history takes it as `x-read-after`.",
      schema: { type: "string" },
    };
  }
  if (takesKey) {
    headers["idempotent-replayed"] = {
      description: "There when the key was used before: this is the first answer again.",
      schema: { const: "true" },
    };
  }
  return Object.keys(headers).length > 0 ? { headers } : {};
}

/** Whether a field of the request, at any depth, is the id of something that may not be there. */
function namesResource(message: DescMessage, ruleOf: RuleOf, within: readonly string[] = []): boolean {
  return message.fields.some((field) => {
    if ((ruleOf(field)?.id ?? "") !== "") return true;
    const inner = field.message;
    if (inner === undefined || within.includes(inner.typeName)) return false;
    return namesResource(inner, ruleOf, [...within, inner.typeName]);
  });
}

function refuseIdsTwice(paths: Readonly<Record<string, Readonly<Record<string, Json>>>>): void {
  const ids = Object.values(paths).flatMap((ofPath) => Object.values(ofPath).map(({ operationId }) => operationId));
  const twice = ids.find((id, index) => ids.indexOf(id) !== index);
  if (twice !== undefined) throw new Error(`two operations are called ${String(twice)}`);
}

/** `node gateway/openapi.ts`: writes gateway/openapi.json anew. */
if (import.meta.main) writeFileSync(new URL("openapi.json", import.meta.url), renderOpenApi());
