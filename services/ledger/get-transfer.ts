import { parseId } from "#lib/ids.ts";
import { malformed } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { GetTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { readElsewhere } from "#services/ledger/cross-shard.ts";
import { decodeTransferColumns, TRANSFER_COLUMNS, type TransferColumns } from "#services/ledger/encode-transfer.ts";
import { toTransfer } from "#services/ledger/make-transfer.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";
import type { PostedTransfer } from "#services/ledger/transfer.ts";

export async function getTransfer(ctx: Context, request: GetTransferRequest): Promise<Transfer> {
  const parsed = parseId(request.transferId, "xfer");
  if (parsed === undefined) throw malformed([{ field: "transfer_id", description: "must be a transfer id (xfer_…)" }]);
  const transfer = await readTransfer(ctx, request.transferId, parsed);
  const payer = ctx.shardOf(shardOfBucket(ctx.map, parsed.bucket));
  return toTransfer(transfer, await readElsewhere(ctx, payer, transfer));
}

/** A transfer as it is now on its own shard. Throws TRANSFER_NOT_FOUND. */
export async function readTransfer(
  ctx: Context,
  transferId: string,
  { uuid, bucket }: { readonly uuid: string; readonly bucket: number },
): Promise<PostedTransfer> {
  const [row] = await readShard<TransferColumns>(ctx, bucket, {
    name: "get-transfer",
    text: `select ${TRANSFER_COLUMNS} from ledger.transfers where transfer_id = $1`,
    values: [uuid],
  });
  if (row === undefined) throw refusals.transferNotFound(transferId);
  return decodeTransferColumns(transferId, row);
}
