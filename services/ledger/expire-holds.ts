import { Counter, Gauge } from "prom-client";
import { uuidToId } from "#lib/ids.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { submit } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { type Cursor, forEachPage, rowsOf, workOnEveryShard } from "#services/ledger/shard-worker.ts";

/**
 * Gives back what holds have left when their time is over. Nobody needs it for being right: from its `expire_time` on a hold
 * can not be captured, whether this has come to it or not. The second to come to a hold finds nothing to do.
 */
const INTERVAL_MS = 1_000;
const LANE: LaneName = { name: "ledger hold expiry", ordered: false };

const overdue = new Gauge({
  name: "ledger_overdue_holds",
  help: "Open holds past their time found in the last round of expiry",
  labelNames: ["shard"],
});
const expired = new Counter({
  name: "ledger_expired_holds_total",
  help: "Holds that this process has expired",
  labelNames: ["shard"],
});

/** Works on every shard until the signal aborts. */
export function expireHolds(ctx: Context, signal: AbortSignal): Promise<void> {
  return workOnEveryShard(ctx, signal, {
    intervalMs: INTERVAL_MS,
    complaint: "holds cannot be expired on the shard; trying again",
    async round(handle) {
      const found = await forEachPage(
        (after, limit) => overdueHolds(handle, after, limit),
        (rows) => Promise.all(rows.map(([holdUuid, , debitUuid]) => expireHold(ctx, handle, holdUuid, debitUuid))),
      );
      overdue.set({ shard: handle.shard.number }, found);
    },
  });
}

function overdueHolds(handle: ShardHandle, after: Cursor, limit: number) {
  return rowsOf<[holdUuid: string, expireTime: string, debitUuid: string]>(
    handle,
    "read-overdue-holds",
    `select hold_id, expire_time::text, debit_account_id from ledger.holds h
      where state = 'OPEN' and expire_time <= now() and (expire_time, hold_id) > ($1, $2)
      order by h.expire_time, hold_id limit $3`,
    [...after, limit],
  );
}

async function expireHold(ctx: Context, handle: ShardHandle, holdUuid: string, debitUuid: string): Promise<void> {
  const holdId = uuidToId("hold", holdUuid);
  const outcome = await submit(
    handle,
    {
      kind: "expire_hold",
      key: undefined,
      name: `expire ${holdId}`,
      weight: 1,
      accounts: [{ id: uuidToId("acct", debitUuid), uuid: debitUuid }],
      holdId,
    },
    LANE,
    performance.now() + COMMAND_TIMEOUT_MS,
  );
  if (outcome.kind === "done" && outcome.answer.kind === "hold") expired.inc({ shard: handle.shard.number });
  // What was refused or not known in time comes again in the next round.
  if (outcome.kind === "failed") ctx.log.error({ hold: holdId, err: outcome.error }, "a hold cannot be expired");
}
