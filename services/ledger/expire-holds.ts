import { Counter, Gauge } from "prom-client";
import { BackOff, pause } from "#lib/back-off.ts";
import { uuidToId } from "#lib/ids.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { submit } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";

/**
 * Gives back what holds have left when their time is over. Nobody needs it for being right: from its `expire_time` on a hold
 * can not be captured, whether this has come to it or not. It knows nothing but what the shards have written, needs no
 * leader, and may run many times at once: the second to come to a hold finds nothing to do.
 */
const INTERVAL_MS = 1_000;
/** Several pages a round: holds that cannot be expired now must not keep others from their turn. */
const PAGE_HOLDS = 200;
const MAX_PAGES_PER_ROUND = 25;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 2_000;
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
export async function expireHolds(ctx: Context, signal: AbortSignal): Promise<void> {
  await Promise.all(ctx.shards.map((handle) => expireOnShard(ctx, handle, signal)));
}

async function expireOnShard(ctx: Context, handle: ShardHandle, signal: AbortSignal): Promise<void> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  const shard = handle.shard.number;
  while (!signal.aborted) {
    try {
      overdue.set({ shard }, await expireRound(ctx, handle));
      backOff.reset();
      await pause(INTERVAL_MS, signal);
    } catch (error) {
      ctx.log.warn({ shard, error: String(error) }, "holds cannot be expired on the shard; trying again");
      await backOff.wait(signal);
    }
  }
}

/** Answers how many holds were overdue. */
async function expireRound(ctx: Context, handle: ShardHandle): Promise<number> {
  let after: readonly [string, string] = ["-infinity", FIRST_UUID];
  let found = 0;
  for (let page = 0; page < MAX_PAGES_PER_ROUND; page += 1) {
    const { rows } = await handle.shard.reads.query<[holdUuid: string, debitUuid: string, expireTime: string]>({
      name: "read-overdue-holds",
      text: `select hold_id, debit_account_id, expire_time::text from ledger.holds
              where state = 'OPEN' and expire_time <= now() and (expire_time, hold_id) > ($1, $2)
              order by expire_time, hold_id limit $3`,
      values: [...after, PAGE_HOLDS],
      rowMode: "array",
    });
    const last = rows.at(-1);
    if (last === undefined) break;
    after = [last[2], last[0]];
    await Promise.all(rows.map(([holdUuid, debitUuid]) => expireHold(ctx, handle, holdUuid, debitUuid)));
    found += rows.length;
    if (rows.length < PAGE_HOLDS) break;
  }
  return found;
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
