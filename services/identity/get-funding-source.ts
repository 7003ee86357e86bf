import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import type { FundingSource, GetFundingSourceRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { FUNDING_SOURCE_COLUMNS, type FundingSourceRow, toFundingSource } from "#services/identity/funding-source.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";

export async function getFundingSource(
  ctx: Context,
  { fundingSourceId }: GetFundingSourceRequest,
  call: Call,
): Promise<FundingSource> {
  const self = selfOf(call);
  const id = parseId(fundingSourceId, "fund");
  if (id === undefined || id.bucket !== self.bucket) throw refusals.fundingSourceNotFound(fundingSourceId);
  const [row] = await ctx
    .shardOfBucket(self.bucket)
    .read<FundingSourceRow>(
      `select ${FUNDING_SOURCE_COLUMNS} from identity.funding_sources where funding_source_id = $1 and user_id = $2`,
      [id.uuid, self.userUuid],
    );
  if (row === undefined) throw refusals.fundingSourceNotFound(fundingSourceId);
  return toFundingSource(row);
}
