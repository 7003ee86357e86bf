import { errorTypeOf, isUnavailable } from "#lib/elasticsearch.ts";
import type { Call } from "#lib/grpc-server.ts";
import { decodePosition, encodePosition, type Position } from "#lib/position.ts";
import { ALIASES } from "#lib/projection.ts";
import type { Context } from "#services/reporting/context.ts";
import type { ListFilters } from "#services/reporting/parse-list.ts";
import { refusals } from "#services/reporting/refusals.ts";

/**
 * Pages of documents that never change in what they are sorted by. The first page notes how far each shard's projection
 * was (the bound), and every page shows only documents of events up to there: a set that is complete and visible, and
 * that nothing is added to. So what arrives later can neither shift a page nor slip into one.
 *
 * The page token holds the bound and the sort values of the page's last document.
 */
const SEARCH_TIMEOUT_MS = 4_000;

export interface PageQuery<Source> {
  readonly family: "entries" | "transfers";
  readonly filters: ListFilters;
  /** The field that the account is looked for in. */
  readonly accountField: string;
  /** Newest first; the last ones make the order total. */
  readonly sortFields: readonly string[];
  /** A document's values of them. */
  readonly sortValues: (source: Source) => string[];
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface Page<Source> {
  readonly sources: readonly Source[];
  readonly nextPageToken: string;
  readonly hasMore: boolean;
}

/** Throws a Refusal: a foreign page token, a malformed or unreached x-read-after, Elasticsearch away, too many queries. */
export async function searchPage<Source>(ctx: Context, call: Call, query: PageQuery<Source>): Promise<Page<Source>> {
  const { family, filters, pageSize, pageToken } = query;
  const scope = [family, call.caller, JSON.stringify(filters)];
  const cursor = pageToken === "" ? undefined : openCursor(ctx.pageTokens.open(scope, pageToken));
  const readAfter = call.readAfter === undefined ? [] : decodePosition(call.readAfter);
  if (readAfter === undefined) throw refusals.readAfterMalformed();

  // After a loss of the indices a projection starts again: later pages wait for it too.
  const reached = await ctx.checkpoints.reached([...readAfter, ...(cursor?.bound ?? [])], call);
  const bound = cursor?.bound ?? [...reached].map(([shard, number]) => ({ shard, number }));

  // One more than asked for says whether there is a next page.
  const found = await ctx.queryLimit.run(() => search(ctx, query, bound, cursor?.after, pageSize + 1));
  const sources = found.slice(0, pageSize);
  const last = sources.at(-1);
  const hasMore = found.length > pageSize;
  const nextPageToken =
    hasMore && last !== undefined ? ctx.pageTokens.seal(scope, [encodePosition(bound), ...query.sortValues(last)]) : "";
  return { sources, nextPageToken, hasMore };
}

/** The cursor comes out of a token that we signed. */
function openCursor([bound, ...after]: readonly string[]): { bound: Position[]; after: string[] } {
  return { bound: decodePosition(bound ?? "") ?? [], after };
}

async function search<Source>(
  ctx: Context,
  { family, filters, accountField, sortFields }: PageQuery<Source>,
  bound: readonly Position[],
  after: readonly string[] | undefined,
  size: number,
): Promise<Source[]> {
  const { accountId, from, to, type } = filters;
  const effectiveTime = { ...(from === undefined ? {} : { gte: from }), ...(to === undefined ? {} : { lt: to }) };
  const upTo = bound.map(({ shard, number }) => ({
    bool: { filter: [{ term: { shard } }, { range: { event_number: { lte: number.toString() } } }] },
  }));
  try {
    const { hits, timed_out } = await ctx.elasticsearch.search<Source>(
      {
        index: ALIASES[family],
        size,
        query: {
          bool: {
            filter: [
              ...(accountId === undefined ? [] : [{ term: { [accountField]: accountId } }]),
              ...(from === undefined && to === undefined ? [] : [{ range: { effective_time: effectiveTime } }]),
              ...(type === undefined ? [] : [{ term: { type } }]),
              { bool: { should: upTo, minimum_should_match: 1 } },
            ],
          },
        },
        sort: sortFields.map((field) => ({ [field]: "desc" as const })),
        ...(after === undefined ? {} : { search_after: [...after] }),
        track_total_hits: false,
        allow_partial_search_results: false,
        timeout: `${SEARCH_TIMEOUT_MS}ms`,
      },
      { requestTimeout: SEARCH_TIMEOUT_MS },
    );
    if (timed_out) throw refusals.historyUnavailable();
    return hits.hits.map(({ _source }) => _source as Source);
  } catch (error) {
    if (isUnavailable(error) || errorTypeOf(error) === "index_not_found_exception") throw refusals.historyUnavailable();
    throw error;
  }
}
