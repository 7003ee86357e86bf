import { Gauge } from "prom-client";
import { BackOff, pause } from "#lib/back-off.ts";
import { uuidToId } from "#lib/ids.ts";
import type { LedgerCommand } from "#services/ledger/command.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { closeCommand, postCommand, releaseCommand, submit, transitOfLegs } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { noteExhausted } from "#services/ledger/recover-reversals.ts";
import type { LockedLeg } from "#services/ledger/remote-leg.ts";
import { LEG_COLUMNS, type LegRow, toLockedLeg } from "#services/ledger/remote-leg-row.ts";

/**
 * Finishes transfers between shards that were left half way: by a process that was killed, a shard that was away, a caller's
 * deadline. It knows nothing but what the shards have written, needs no leader, and may run many times at once: every step
 * may be done twice.
 *
 *   a leg that is PREPARED for long       asks the payer's shard, which answers with its decision, or decides against the
 *   or a quote that is RESERVED           transfer for ever; then the leg is posted or released, the quote used or open again
 *   a decision that is COMMITTED for long its legs are posted (by the line above, on their shards); it is closed when no
 *                                         other shard has one that is not
 *   a posting that is EXHAUSTED for long  the transfer's own shard is told (recover-reversals.ts)
 */
const AGE_MS = 2_000;
const INTERVAL_MS = 500;
/** Several pages a round: those of a shard that is away must not keep others from their turn. */
const PAGE_TRANSFERS = 200;
const MAX_PAGES_PER_ROUND = 25;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 2_000;
const LANE: LaneName = { name: "ledger recovery", ordered: false };

const unfinished = new Gauge({
  name: "ledger_unfinished_transfers",
  help: "Transfers found half way in the last round of recovery",
  labelNames: ["shard", "kind"],
});

/** Works on every shard until the signal aborts. */
export async function recover(ctx: Context, signal: AbortSignal): Promise<void> {
  await Promise.all(ctx.shards.map((handle) => recoverShard(ctx, handle, signal)));
}

async function recoverShard(ctx: Context, handle: ShardHandle, signal: AbortSignal): Promise<void> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  const shard = handle.shard.number;
  while (!signal.aborted) {
    try {
      const legs = await resolveLegs(ctx, handle);
      const decisions = await closeDecisions(ctx, handle);
      const exhausted = await noteExhausted(ctx, handle, LANE);
      unfinished.set({ shard, kind: "prepared" }, legs);
      unfinished.set({ shard, kind: "committed" }, decisions);
      unfinished.set({ shard, kind: "reversed" }, exhausted);
      backOff.reset();
      await pause(INTERVAL_MS, signal);
    } catch (error) {
      ctx.log.warn({ shard, error: String(error) }, "recovery cannot work on the shard; trying again");
      await backOff.wait(signal);
    }
  }
}

/** Legs and quotes on this shard that wait for a decision. Answers how many transfers there were. */
async function resolveLegs(ctx: Context, handle: ShardHandle): Promise<number> {
  let after: readonly [string, string] = ["-infinity", FIRST_UUID];
  let found = 0;
  for (let page = 0; page < MAX_PAGES_PER_ROUND; page += 1) {
    const waiting = await handle.shard.reads.query<[string, string]>({
      name: "read-waiting-legs",
      text: `select transfer_id, since::text
               from (select transfer_id, prepared_at as since from ledger.remote_legs where state = 'PREPARED'
                     union select transfer_id, reserved_at from ledger.quotes where state = 'RESERVED') w
              where since < now() - make_interval(secs => $1) and (since, transfer_id) > ($2, $3)
              order by w.since, transfer_id limit $4`,
      values: [AGE_MS / 1000, ...after, PAGE_TRANSFERS],
      rowMode: "array",
    });
    const last = waiting.rows.at(-1);
    if (last === undefined) break;
    after = [last[1], last[0]];
    const uuids = [...new Set(waiting.rows.map(([uuid]) => uuid))];
    const { rows } = await handle.shard.reads.query<LegRow>({
      name: "read-legs",
      text: `select ${LEG_COLUMNS} from ledger.remote_legs where transfer_id = any ($1)`,
      values: [uuids],
      rowMode: "array",
    });
    const legsOf = Map.groupBy(rows.map(toLockedLeg), ({ transferUuid }) => transferUuid);
    const quoteOf = await quotesOfTransfers(handle, uuids);
    await Promise.all(
      uuids.map((uuid) => {
        const quoteId = quoteOf.get(uuid);
        return resolveTransfer(ctx, handle, uuidToId("xfer", uuid), { legs: legsOf.get(uuid) ?? [], quoteId });
      }),
    );
    found += uuids.length;
    if (waiting.rows.length < PAGE_TRANSFERS) break;
  }
  return found;
}

/** Of the transfers those that have reserved a quote on the shard, or used it. */
async function quotesOfTransfers(handle: ShardHandle, uuids: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await handle.shard.reads.query<[string, string]>({
    name: "read-quotes-of-transfers",
    text: "select transfer_id, quote_id from ledger.quotes where transfer_id = any ($1)",
    values: [uuids],
    rowMode: "array",
  });
  return new Map(rows.map(([transferUuid, quoteUuid]) => [transferUuid, uuidToId("quot", quoteUuid)]));
}

async function resolveTransfer(
  ctx: Context,
  handle: ShardHandle,
  transferId: string,
  part: { readonly legs: readonly LockedLeg[]; readonly quoteId: string | undefined },
): Promise<void> {
  const payer = ctx.shardOfId(transferId);
  const asked = await run(payer, {
    kind: "abort_transfer",
    key: undefined,
    name: `abort ${transferId}`,
    weight: 1,
    accounts: [],
    transferId,
  });
  // The payer's shard is away, or busy: the next round asks again.
  if (asked.kind !== "done" || asked.answer.kind !== "decision") return;
  const { committed } = asked.answer;
  ctx.log.info({ shard: handle.shard.number, transfer: transferId, committed }, "a transfer was left half way");
  const prepared = { ...part, transitOf: await transitOfLegs(ctx, handle, part.legs) };
  const step = committed ? postCommand(transferId, prepared) : releaseCommand(transferId, prepared);
  const done = await run(handle, step);
  if (done.kind === "failed") ctx.log.error({ transfer: transferId, err: done.error }, "recovery failed");
}

/** Decisions of this shard that are not closed though every other shard is done. Answers how many were waiting. */
async function closeDecisions(ctx: Context, handle: ShardHandle): Promise<number> {
  let after: readonly [string, string] = ["-infinity", FIRST_UUID];
  let found = 0;
  for (let page = 0; page < MAX_PAGES_PER_ROUND; page += 1) {
    const { rows } = await handle.shard.reads.query<OpenDecision>({
      name: "read-open-decisions",
      text: `select d.transfer_id, d.decided_at::text, t.postings, t.links ->> 'quote_id' from ledger.decisions d join ledger.transfers t using (transfer_id)
              where d.state = 'COMMITTED' and d.decided_at < now() - make_interval(secs => $1)
                and (d.decided_at, d.transfer_id) > ($2, $3)
              order by d.decided_at, d.transfer_id limit $4`,
      values: [AGE_MS / 1000, ...after, PAGE_TRANSFERS],
      rowMode: "array",
    });
    const last = rows.at(-1);
    if (last === undefined) break;
    after = [last[1], last[0]];
    const unposted = await unpostedTransfers(ctx, handle, rows);
    const closable = rows.map(([uuid]) => uuid).filter((uuid) => !unposted.has(uuid));
    await Promise.all(closable.map((uuid) => run(handle, closeCommand(uuidToId("xfer", uuid)))));
    found += rows.length;
    if (rows.length < PAGE_TRANSFERS) break;
  }
  return found;
}

type OpenDecision = [
  transferUuid: string,
  decidedAt: string,
  postings: [string, string, string, string][],
  quoteId: string | null,
];

/** Those of the transfers that another shard has not posted yet, or cannot be asked about. */
async function unpostedTransfers(
  ctx: Context,
  payer: ShardHandle,
  rows: readonly OpenDecision[],
): Promise<Set<string>> {
  const asked = new Map<ShardHandle, Set<string>>();
  for (const [uuid, , postings, quoteId] of rows) {
    const accountIds = postings.flatMap((posting) => posting.slice(0, 2));
    for (const id of quoteId === null ? accountIds : [...accountIds, quoteId]) {
      const remote = ctx.shardOfId(id);
      if (remote === payer) continue;
      const transfers = asked.get(remote);
      if (transfers === undefined) asked.set(remote, new Set([uuid]));
      else transfers.add(uuid);
    }
  }
  const unposted = new Set<string>();
  for (const [remote, uuids] of asked) {
    const posted = await postedTransfers(remote, [...uuids]).catch(() => new Set<string>());
    for (const uuid of uuids) if (!posted.has(uuid)) unposted.add(uuid);
  }
  return unposted;
}

/** Those of the transfers whose legs on the shard are posted, or whose quote there is used. Throws when the shard does not answer. */
async function postedTransfers(handle: ShardHandle, uuids: readonly string[]): Promise<Set<string>> {
  const { rows } = await handle.shard.reads.query<[string]>({
    name: "read-posted-transfers",
    text: `select transfer_id from ledger.remote_legs where transfer_id = any ($1) and state = 'POSTED'
            union select transfer_id from ledger.quotes where transfer_id = any ($1) and state = 'USED'`,
    values: [uuids],
    rowMode: "array",
  });
  return new Set(rows.map(([uuid]) => uuid));
}

function run(handle: ShardHandle, command: LedgerCommand) {
  return submit(handle, command, LANE, performance.now() + COMMAND_TIMEOUT_MS);
}
