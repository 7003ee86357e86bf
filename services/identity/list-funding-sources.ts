import type { Call } from "#lib/grpc-server.ts";
import type { ListFundingSourcesRequest, ListFundingSourcesResponse } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import {
  FUNDING_SOURCE_COLUMNS,
  type FundingSourceRow,
  MAX_FUNDING_SOURCES,
  toFundingSource,
} from "#services/identity/funding-source.ts";
import { selfOf } from "#services/identity/self.ts";

export async function listFundingSources(
  ctx: Context,
  _request: ListFundingSourcesRequest,
  call: Call,
): Promise<ListFundingSourcesResponse> {
  const self = selfOf(call);
  const rows = await ctx
    .shardOfBucket(self.bucket)
    .read<FundingSourceRow>(
      `select ${FUNDING_SOURCE_COLUMNS} from identity.funding_sources where user_id = $1 order by funding_source_id desc limit $2`,
      [self.userUuid, MAX_FUNDING_SOURCES],
    );
  return { fundingSources: rows.map(toFundingSource) };
}
