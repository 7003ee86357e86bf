import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import type { DeleteFundingSourceRequest, FundingSource } from "#proto/ledgermesh/identity/v1/identity.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import type { Context } from "#services/identity/context.ts";
import { FUNDING_SOURCE_COLUMNS, type FundingSourceRow, toFundingSource } from "#services/identity/funding-source.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";

export async function deleteFundingSource(
  ctx: Context,
  { fundingSourceId }: DeleteFundingSourceRequest,
  call: Call,
): Promise<FundingSource> {
  const self = selfOf(call);
  const id = parseId(fundingSourceId, "fund");
  if (id === undefined || id.bucket !== self.bucket) throw refusals.fundingSourceNotFound(fundingSourceId);

  const row = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rows } = await db.query<FundingSourceRow>(
      `delete from identity.funding_sources where funding_source_id = $1 and user_id = $2 returning ${FUNDING_SOURCE_COLUMNS}`,
      [id.uuid, self.userUuid],
    );
    if (rows[0] === undefined) return undefined;
    await addIdentityEvent(db, {
      type: "funding_source_deleted",
      bucket: self.bucket,
      aggregateId: fundingSourceId,
      aggregateVersion: 2n,
      payload: { fundingSourceId, userId: self.userId },
    });
    return rows[0];
  });
  if (row === undefined) throw refusals.fundingSourceNotFound(fundingSourceId);
  return toFundingSource(row);
}
