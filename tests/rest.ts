import assert from "node:assert/strict";
import { developmentToken } from "#infra/local/development-key.ts";
import { stackName } from "#tests/stack.ts";

/** Calling the gateway over HTTP, and the one shape of its errors. */

export interface RestAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export interface RestRequest {
  readonly method?: string;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Null: as a stranger. Absent: as the service `console`. */
  readonly token?: string | null;
}

/** `body` is sent as it is, with the content type of JSON unless `headers` say otherwise. */
export async function rest(url: string, request: RestRequest = {}): Promise<RestAnswer> {
  const { body, method = body === undefined ? "GET" : "POST" } = request;
  const token = request.token === undefined ? await consoleToken() : request.token;
  const headers = {
    ...(body === undefined ? {} : { "content-type": "application/json" }),
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...request.headers,
  };
  const answer = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

/** An access token of the service `console`, as which the tests call the gRPC servers as well. */
export function consoleToken(): Promise<string> {
  made ??= developmentToken(stackName, "service", "service:console").then(({ token }) => token);
  return made;
}

let made: Promise<string> | undefined;

interface ErrorBody {
  readonly code: number;
  readonly message: string;
  readonly details: readonly {
    readonly "@type": string;
    readonly reason?: string;
    readonly domain?: string;
    readonly metadata?: Readonly<Record<string, string>>;
    readonly field_violations?: readonly { readonly field: string; readonly description: string }[];
  }[];
}

/** What a program reads from an error. */
export interface RestError {
  readonly status: number;
  readonly code: number;
  readonly reason: string;
  /** Paths of the fields at fault. */
  readonly fields: readonly string[];
  /** What is said about the first of them. */
  readonly description: string;
  readonly message: string;
}

/** Reads an error; fails when it has not the shape that every error must have. */
export function errorOf({ status, headers, text }: RestAnswer): RestError {
  assert.ok(status >= 400, `not an error: ${status} ${text}`);
  assert.equal(headers.get("content-type"), "application/json");
  assert.deepEqual(
    [...headers.keys()].filter((name) => name.startsWith("grpc-")),
    [],
  );
  const body = JSON.parse(text) as ErrorBody;
  assert.deepEqual(new Set(Object.keys(body)), new Set(["code", "message", "details"]));
  assert.ok(body.message !== "", "an error says nothing");
  const [info, ...others] = body.details;
  assert.equal(info?.["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
  assert.equal(info.domain, "ledgermesh");
  assert.match(info.reason ?? "", /^[A-Z_]+$/);
  const violations = others.flatMap((detail) => detail.field_violations ?? []);
  if (status === 429 || status === 503) assert.match(headers.get("retry-after") ?? "", /^[1-9][0-9]*$/);
  return {
    status,
    code: body.code,
    reason: info.reason ?? "",
    fields: violations.map(({ field }) => field),
    description: violations[0]?.description ?? "",
    message: body.message,
  };
}
