import { type GetHoldRequest, type Hold, Hold_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { type HoldSnapshot, remainingOf } from "#services/ledger/hold.ts";
import { HOLD_COLUMNS, type HoldRow, toLockedHold } from "#services/ledger/hold-row.ts";
import { type ParsedHoldId, parseHoldId } from "#services/ledger/parse-hold.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";

export async function getHold(ctx: Context, request: GetHoldRequest): Promise<Hold> {
  return toHold(await readHold(ctx, parseHoldId(request.holdId)));
}

/** The hold as it is now. Throws HOLD_NOT_FOUND, SHARD_UNAVAILABLE. */
export async function readHold(ctx: Context, { id, uuid, bucket }: ParsedHoldId): Promise<HoldSnapshot> {
  const [row] = await readShard<HoldRow>(ctx, bucket, {
    name: "get-hold",
    text: `select ${HOLD_COLUMNS} from ledger.holds where hold_id = $1`,
    values: [uuid],
  });
  if (row === undefined) throw refusals.holdNotFound(id);
  return toLockedHold(row);
}

/** A hold as the API answers it. */
export function toHold(hold: HoldSnapshot): Hold {
  return {
    holdId: hold.holdId,
    debitAccountId: hold.debit.id,
    creditAccountId: hold.credit.id,
    amountMinorUnits: hold.amountMinorUnits,
    capturedMinorUnits: hold.capturedMinorUnits,
    remainingMinorUnits: remainingOf(hold),
    currency: hold.currency,
    state: Hold_State[hold.state],
    expireTime: new Date(hold.expireTimeMs),
    createTime: new Date(hold.createTimeMs),
    version: hold.version,
  };
}
