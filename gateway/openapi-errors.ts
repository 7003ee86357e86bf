/** Errors in the OpenAPI document: their one shape, and the reasons of docs/errors.md, which is the source. */

type Json = Readonly<Record<string, unknown>>;

/** One row of docs/errors.md. */
export interface ErrorReason {
  readonly reason: string;
  /** As the page has it: `INVALID_ARGUMENT 400`. */
  readonly status: string;
  readonly httpStatuses: readonly number[];
  readonly meaning: string;
}

/** The rows of docs/errors.md. Throws for a row of another form: it would be missing in the document. */
export function readReasons(errorsPage: string): ErrorReason[] {
  const rows = errorsPage.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((row) => {
    const [, reason, status = "", meaning] = /^\| `([A-Z_]+)` \| ([^|]+) \| (.+) \|$/.exec(row) ?? [];
    const httpStatuses = [...status.matchAll(/\b([45]\d\d)\b/g)].map(([number]) => Number(number));
    if (reason === undefined || meaning === undefined || httpStatuses.length === 0) {
      throw new Error(`docs/errors.md has a row that is not "reason | status | what it means": ${row}`);
    }
    return { reason, status, httpStatuses, meaning };
  });
}

const typeOf = (name: string) => ({ const: `type.googleapis.com/google.rpc.${name}` });
const text: Json = { type: "string" };

function detail(name: string, description: string, properties: Json, required: readonly string[]): Json {
  return {
    type: "object",
    description,
    properties: { "@type": typeOf(name), ...properties },
    required: ["@type", ...required],
  };
}

/** google.rpc.Status and its details, as they are in JSON. */
export function errorSchemas(): Readonly<Record<string, Json>> {
  return {
    Error: {
      type: "object",
      description: "google.rpc.Status. Programs decide by the `reason` of its first detail; `message` is for people.",
      properties: {
        code: {
          type: "integer",
          format: "int32",
          minimum: 1,
          maximum: 16,
          description: "A number of google.rpc.Code.",
        },
        message: { type: "string", minLength: 1, description: "What is wrong and what to do, for people; may change." },
        details: {
          type: "array",
          minItems: 1,
          prefixItems: [{ $ref: "#/components/schemas/ErrorInfo" }],
          items: {
            anyOf: ["BadRequest", "RetryInfo", "ResourceInfo"].map((name) => ({
              $ref: `#/components/schemas/${name}`,
            })),
          },
        },
      },
      required: ["code", "message", "details"],
    },
    ErrorInfo: detail(
      "ErrorInfo",
      "Always the first detail.",
      {
        reason: {
          type: "string",
          pattern: "^[A-Z]+(_[A-Z]+)*$",
          description: "Stable: one of `x-ledgermesh-reasons`.",
        },
        domain: { const: "ledgermesh" },
        metadata: {
          type: "object",
          additionalProperties: text,
          description: "The ids and figures that explain it.",
        },
      },
      ["reason", "domain", "metadata"],
    ),
    BadRequest: detail(
      "BadRequest",
      "What is wrong with which field.",
      {
        field_violations: {
          type: "array",
          minItems: 1,
          items: {
            type: "object",
            properties: {
              field: { ...text, description: "Its path, such as `postings[0].amount_minor_units`." },
              description: text,
              reason: text,
            },
            required: ["field", "description"],
          },
        },
      },
      ["field_violations"],
    ),
    RetryInfo: detail(
      "RetryInfo",
      "When to try again.",
      { retry_delay: { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?s$" } },
      ["retry_delay"],
    ),
    ResourceInfo: detail(
      "ResourceInfo",
      "The resource that an idempotency key made first.",
      { resource_type: text, resource_name: text, owner: text, description: text },
      ["resource_type", "resource_name"],
    ),
  };
}

/** What a status says by itself, for an operation whose comment says more. */
const MEANINGS: Readonly<Record<number, string>> = {
  400: "The request is malformed, or a rule refuses it.",
  401: "There is no access token, or it is not valid any more.",
  403: "The caller's role may not do this, or needs a second factor for it.",
  404: "There is no such thing, or it is not the caller's.",
  408: "The request did not arrive in time. Nothing has happened.",
  409: "The idempotency key was used with another body.",
  413: "The body is too large.",
  415: "The body is not `application/json`.",
  429: "Too much at once. Try again after `Retry-After` seconds.",
  431: "The headers are too large.",
  500: "A defect on our side.",
  502: "The outcome is not known: repeat the call with the same idempotency key.",
  503: "Not possible right now. Try again after `Retry-After` seconds.",
  504: "No answer in time, so the outcome is not known: repeat the call with the same idempotency key.",
};
const WITH_RETRY_AFTER: readonly number[] = [429, 503];

/** `components.responses`: one for each status, by the name that `errorResponses` refers to. */
export function sharedErrorResponses(): Json {
  const response = (status: number, description: string): Json => ({
    description,
    ...(WITH_RETRY_AFTER.includes(status) && {
      headers: {
        "Retry-After": {
          description: "In seconds.",
          required: true,
          schema: { type: "string", pattern: "^[1-9][0-9]*$" },
        },
      },
    }),
    content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
  });
  return Object.fromEntries(
    Object.entries(MEANINGS).map(([status, meaning]) => [`Error${status}`, response(Number(status), meaning)]),
  );
}

/** The error responses of an operation, by their statuses. */
export function errorResponses(statuses: readonly number[]): Json {
  return Object.fromEntries(statuses.map((status) => [status, { $ref: `#/components/responses/Error${status}` }]));
}
