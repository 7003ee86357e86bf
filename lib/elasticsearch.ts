import { Client, errors } from "@elastic/elasticsearch";

/**
 * The client as this system uses it. Numbers that may pass 2^53 (amounts, balances, sequences, event numbers) are strings
 * in every document and every query: the client refuses BigInt, and reads large integers wrong.
 */
export type { Client as Elasticsearch };

/** A client without retries of its own: who calls knows whether, and for how long, to try again. */
export function openElasticsearch(url: string, requestTimeoutMs: number): Client {
  return new Client({ node: url, maxRetries: 0, requestTimeout: requestTimeoutMs, sniffOnStart: false });
}

/** The HTTP status of an answer that was an error; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof errors.ResponseError ? error.statusCode : undefined;
}

/** The type of an answer that was an error, such as `index_not_found_exception`. */
export function errorTypeOf(error: unknown): string | undefined {
  if (!(error instanceof errors.ResponseError)) return undefined;
  const body = error.body as { error?: { type?: string } } | undefined;
  return body?.error?.type;
}

/** Whether the server did not answer, or said itself that it cannot now. */
export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof errors.ElasticsearchClientError)) return false;
  const status = statusOf(error);
  return status === undefined || status === 429 || status >= 500;
}
