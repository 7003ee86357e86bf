import type { Elasticsearch } from "#lib/elasticsearch.ts";
import type { PageTokens } from "#lib/page-token.ts";
import type { Checkpoints } from "#services/reporting/checkpoints.ts";
import type { QueryLimit } from "#services/reporting/query-limit.ts";

/** What the handlers work with; built once in main.ts. */
export interface Context {
  readonly elasticsearch: Elasticsearch;
  readonly checkpoints: Checkpoints;
  readonly queryLimit: QueryLimit;
  readonly pageTokens: PageTokens;
}
