import { idToUuid } from "#lib/ids.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";
import type { LockedLeg } from "#services/ledger/remote-leg.ts";
import { LEG_COLUMNS, type LegRow, toLockedLeg } from "#services/ledger/remote-leg-row.ts";

/** The legs of a transfer on a shard, as they are now; none when the shard does not answer. */
export async function readRemoteLegs(ctx: Context, handle: ShardHandle, transferId: string): Promise<LockedLeg[]> {
  try {
    const { rows } = await handle.shard.reads.query<LegRow>({
      name: "read-remote-legs",
      text: `select ${LEG_COLUMNS} from ledger.remote_legs where transfer_id = $1 order by posting_index`,
      values: [idToUuid(transferId)],
      rowMode: "array",
    });
    return rows.map(toLockedLeg);
  } catch (error) {
    ctx.log.warn({ shard: handle.shard.number, error: String(error) }, "the legs of a transfer cannot be read");
    return [];
  }
}
