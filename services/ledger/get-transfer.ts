import { parseId } from "#lib/ids.ts";
import { malformed } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { GetTransferRequest, Transfer } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { readElsewhere } from "#services/ledger/cross-shard.ts";
import { type BalanceColumn, decodeTransfer } from "#services/ledger/encode-transfer.ts";
import { toTransfer } from "#services/ledger/make-transfer.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";

export async function getTransfer(ctx: Context, request: GetTransferRequest): Promise<Transfer> {
  const parsed = parseId(request.transferId, "xfer");
  if (parsed === undefined) throw malformed([{ field: "transfer_id", description: "must be a transfer id (xfer_…)" }]);
  const [row] = await readShard<TransferColumns>(ctx, parsed.bucket, {
    name: "get-transfer",
    text: `select state, type, memo, metadata, postings, balances,
                  extract(epoch from post_time) * 1000, extract(epoch from effective_time) * 1000, links
             from ledger.transfers where transfer_id = $1`,
    values: [parsed.uuid],
  });
  if (row === undefined) throw refusals.transferNotFound(request.transferId);
  const [state, type, memo, metadata, postings, balances, postTimeMs, effectiveTimeMs, links] = row;
  const columns = { state, type, memo, metadata, postings, balances, links };
  const times = { postTimeMs: Number(postTimeMs), effectiveTimeMs: Number(effectiveTimeMs) };
  const transfer = decodeTransfer(request.transferId, { ...columns, ...times });
  const payer = ctx.shardOf(shardOfBucket(ctx.map, parsed.bucket));
  return toTransfer(transfer, await readElsewhere(ctx, payer, transfer));
}

type TransferColumns = [
  state: string,
  type: string,
  memo: string,
  metadata: Record<string, string>,
  postings: [string, string, string, string][],
  balances: BalanceColumn[],
  postTimeMs: string,
  effectiveTimeMs: string,
  links: Parameters<typeof decodeTransfer>[1]["links"],
];
