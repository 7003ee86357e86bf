import { uuidToId } from "#lib/ids.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { closeRefunds, noteReversed } from "#services/ledger/note-reversed.ts";
import { type Cursor, forEachPage, rowsOf } from "#services/ledger/shard-worker.ts";

/** What recovery does for postings that are wholly taken back and of which the transfer's own shard was not told. */
const AGE_MS = 2_000;
/** Tells the shards of the transfers whose postings on this shard wait for it. Answers how many transfers there were. */
export function noteExhausted(ctx: Context, handle: ShardHandle, lane: LaneName): Promise<number> {
  return forEachPage(
    (after, limit) => exhaustedPostings(handle, after, limit),
    (rows) => Promise.all(rows.map(([uuid, , indexes]) => noteOne(ctx, handle, uuidToId("xfer", uuid), indexes, lane))),
  );
}

function exhaustedPostings(handle: ShardHandle, after: Cursor, limit: number) {
  return rowsOf<[transferUuid: string, exhaustedAt: string, postingIndexes: number[]]>(
    handle,
    "read-waiting-refunds",
    `select r.transfer_id, r.exhausted_at::text, array_agg(r.posting_index) from ledger.refunded_postings r
      where r.state = 'EXHAUSTED' and r.exhausted_at < now() - make_interval(secs => $1)
        and (r.exhausted_at, r.transfer_id) > ($2, $3)
      group by r.exhausted_at, r.transfer_id order by r.exhausted_at, r.transfer_id limit $4`,
    [AGE_MS / 1000, ...after, limit],
  );
}

async function noteOne(
  ctx: Context,
  handle: ShardHandle,
  transferId: string,
  postingIndexes: readonly number[],
  lane: LaneName,
): Promise<void> {
  const deadlineMs = performance.now() + COMMAND_TIMEOUT_MS;
  const noted = await noteReversed(ctx, transferId, postingIndexes, lane, deadlineMs);
  if (noted.kind === "failed") ctx.log.error({ transfer: transferId, err: noted.error }, "a reversal cannot be noted");
  // The transfer's shard is away, or busy: the next round tells it again.
  if (noted.kind !== "done") return;
  ctx.log.info({ shard: handle.shard.number, transfer: transferId }, "a reversal was not noted");
  await closeRefunds(handle, transferId, postingIndexes, lane, performance.now() + COMMAND_TIMEOUT_MS);
}
