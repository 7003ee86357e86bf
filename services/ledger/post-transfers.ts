import type { Client } from "pg";
import { bucketOfUuid } from "#lib/ids.ts";
import type { Refusal } from "#lib/refusal.ts";
import { plainArray, textArray } from "#lib/sql-arrays.ts";
import { encodeRefusal, keyColumns } from "#services/ledger/command-key.ts";
import { encodeBalances, encodePostings, rfc3339 } from "#services/ledger/encode-transfer.ts";
import type { EntryLine, LockedAccount, PostedTransfer, TransferCommand } from "#services/ledger/transfer.ts";

/** The second round trip of a batch: everything that was decided, written by one SQL function. */
export interface PostedCommand {
  /** Among the commands of the batch. */
  readonly index: number;
  readonly command: TransferCommand;
  readonly transfer: PostedTransfer;
  readonly entries: readonly EntryLine[];
  /** The event: written at once, since later commands of the batch change the accounts. */
  readonly payload: string;
}

/** What a batch decided. */
export interface DecidedBatch {
  readonly posted: readonly PostedCommand[];
  /** Commands refused now: their keys are remembered with the refusal, or given back. */
  readonly refusedNow: readonly { command: TransferCommand; refusal: Refusal; remembered: boolean }[];
  /** Accounts that changed, as they are now. */
  readonly touched: readonly LockedAccount[];
}

/** The parameters of `ledger.post_transfers`, in its order. */
export type PostColumns = readonly (string | number)[];

export function postColumns(mapVersion: number, { posted, refusedNow, touched }: DecidedBatch): PostColumns {
  const transfers = posted.map(({ transfer }) => transfer);
  const entries = posted.flatMap(({ entries: lines, command, transfer }) =>
    lines.map((entry) => ({ entry, command, transfer })),
  );
  return [
    mapVersion,
    plainArray(posted.map(({ command }) => command.transferUuid)),
    plainArray(posted.map(({ command }) => command.bucket)),
    textArray(transfers.map(({ type }) => type)),
    textArray(transfers.map(({ memo }) => memo)),
    textArray(transfers.map(({ metadata }) => JSON.stringify(metadata))),
    textArray(transfers.map(encodePostings)),
    textArray(transfers.map(encodeBalances)),
    plainArray(transfers.map(({ postTimeMs }) => rfc3339(postTimeMs))),
    plainArray(transfers.map(({ effectiveTimeMs }) => rfc3339(effectiveTimeMs))),
    plainArray(transfers.map(({ transferId }) => transferId)),
    textArray(posted.map(({ payload }) => payload)),

    plainArray(entries.map(({ entry }) => entry.account.uuid)),
    plainArray(entries.map(({ entry }) => entry.sequence)),
    plainArray(entries.map(({ entry }) => bucketOfUuid(entry.account.uuid))),
    plainArray(entries.map(({ command }) => command.transferUuid)),
    plainArray(entries.map(({ entry }) => entry.postingIndex)),
    plainArray(entries.map(({ entry }) => entry.amountMinorUnits)),
    plainArray(entries.map(({ entry }) => entry.balanceAfterMinorUnits)),
    plainArray(entries.map(({ entry }) => entry.currency)),
    plainArray(entries.map(({ entry }) => entry.counterparty.uuid)),
    plainArray(entries.map(({ transfer }) => rfc3339(transfer.postTimeMs))),
    plainArray(entries.map(({ transfer }) => rfc3339(transfer.effectiveTimeMs))),

    plainArray(touched.map(({ uuid }) => uuid)),
    plainArray(touched.map(({ postedMinorUnits }) => postedMinorUnits)),
    plainArray(touched.map(({ version }) => version)),
    plainArray(touched.map(({ entrySequence }) => entrySequence)),
    plainArray(touched.map(({ lastPostTimeMs }) => rfc3339(lastPostTimeMs))),
    plainArray(touched.map(({ lastEffectiveTimeMs }) => rfc3339(lastEffectiveTimeMs))),

    ...keyColumns(refusedNow.map(({ command }) => command)),
    textArray(refusedNow.map(({ refusal, remembered }) => (remembered ? encodeRefusal(refusal) : null))),
  ];
}

/** Sends the statement that writes the batch; answers the number of its first event. */
export async function postTransfers(db: Client, columns: PostColumns): Promise<bigint> {
  const { rows } = await db.query<[string]>({
    name: "post-transfers",
    text: `select ledger.post_transfers(${POST_PARAMETERS})`,
    values: [...columns],
    rowMode: "array",
  });
  return BigInt(rows[0]?.[0] as string);
}

const POST_PARAMETER_COUNT = 34;
const POST_PARAMETERS = Array.from({ length: POST_PARAMETER_COUNT }, (_, index) => `$${index + 1}`).join(", ");
