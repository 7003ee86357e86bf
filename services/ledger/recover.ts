import { Gauge } from "prom-client";
import { uuidToId } from "#lib/ids.ts";
import type { LedgerCommand } from "#services/ledger/command.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { closeCommand, postCommand, releaseCommand, submit, transitOfLegs } from "#services/ledger/cross-shard.ts";
import type { LaneName } from "#services/ledger/group-commit.ts";
import { noteExhausted } from "#services/ledger/recover-reversals.ts";
import type { LockedLeg } from "#services/ledger/remote-leg.ts";
import { LEG_COLUMNS, type LegRow, toLockedLeg } from "#services/ledger/remote-leg-row.ts";
import { type Cursor, forEachPage, rowsOf, workOnEveryShard } from "#services/ledger/shard-worker.ts";

/**
 * Finishes transfers between shards that were left half way: by a process that was killed, a shard that was away, a caller's
 * deadline.
 *
 *   a leg that is PREPARED for long       asks the payer's shard, which answers with its decision, or decides against the
 *   or a quote that is RESERVED           transfer for ever; then the leg is posted or released, the quote used or open again
 *   a decision that is COMMITTED for long its legs are posted (by the line above, on their shards); it is closed when no
 *                                         other shard has one that is not
 *   a posting that is EXHAUSTED for long  the transfer's own shard is told (recover-reversals.ts)
 */
const AGE_MS = 2_000;
const INTERVAL_MS = 500;
const LANE: LaneName = { name: "ledger recovery", ordered: false };

const unfinished = new Gauge({
  name: "ledger_unfinished_transfers",
  help: "Transfers found half way in the last round of recovery",
  labelNames: ["shard", "kind"],
});

/** Works on every shard until the signal aborts. */
export function recover(ctx: Context, signal: AbortSignal): Promise<void> {
  return workOnEveryShard(ctx, signal, {
    intervalMs: INTERVAL_MS,
    complaint: "recovery cannot work on the shard; trying again",
    async round(handle) {
      const shard = handle.shard.number;
      unfinished.set({ shard, kind: "prepared" }, await resolveLegs(ctx, handle));
      unfinished.set({ shard, kind: "committed" }, await closeDecisions(ctx, handle));
      unfinished.set({ shard, kind: "reversed" }, await noteExhausted(ctx, handle, LANE));
    },
  });
}

/** Legs and quotes on this shard that wait for a decision. Answers how many there were. */
function resolveLegs(ctx: Context, handle: ShardHandle): Promise<number> {
  return forEachPage(
    (after, limit) => undecidedTransfers(handle, after, limit),
    async (waiting) => {
      const uuids = [...new Set(waiting.map(([uuid]) => uuid))];
      const text = `select ${LEG_COLUMNS} from ledger.remote_legs where transfer_id = any ($1)`;
      const legs = (await rowsOf<LegRow>(handle, "read-legs", text, [uuids])).map(toLockedLeg);
      const legsOf = Map.groupBy(legs, ({ transferUuid }) => transferUuid);
      const quoteOf = await quotesOfTransfers(handle, uuids);
      await Promise.all(
        uuids.map((uuid) => {
          const quoteId = quoteOf.get(uuid);
          return resolveTransfer(ctx, handle, uuidToId("xfer", uuid), { legs: legsOf.get(uuid) ?? [], quoteId });
        }),
      );
    },
  );
}

function undecidedTransfers(handle: ShardHandle, after: Cursor, limit: number) {
  return rowsOf<[transferUuid: string, since: string]>(
    handle,
    "read-waiting-legs",
    `select transfer_id, since::text
       from (select transfer_id, prepared_at as since from ledger.remote_legs where state = 'PREPARED'
             union select transfer_id, reserved_at from ledger.quotes where state = 'RESERVED') w
      where since < now() - make_interval(secs => $1) and (since, transfer_id) > ($2, $3)
      order by w.since, transfer_id limit $4`,
    [AGE_MS / 1000, ...after, limit],
  );
}

/** Of the transfers those that have reserved a quote on the shard, or used it. */
async function quotesOfTransfers(handle: ShardHandle, uuids: readonly string[]): Promise<Map<string, string>> {
  const text = "select transfer_id, quote_id from ledger.quotes where transfer_id = any ($1)";
  const rows = await rowsOf<[string, string]>(handle, "read-quotes-of-transfers", text, [uuids]);
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
function closeDecisions(ctx: Context, handle: ShardHandle): Promise<number> {
  return forEachPage(
    (after, limit) => openDecisions(handle, after, limit),
    async (rows) => {
      const unposted = await unpostedTransfers(ctx, handle, rows);
      const closable = rows.map(([uuid]) => uuid).filter((uuid) => !unposted.has(uuid));
      await Promise.all(closable.map((uuid) => run(handle, closeCommand(uuidToId("xfer", uuid)))));
    },
  );
}

function openDecisions(handle: ShardHandle, after: Cursor, limit: number) {
  return rowsOf<OpenDecision>(
    handle,
    "read-open-decisions",
    `select d.transfer_id, d.decided_at::text, t.postings, t.links ->> 'quote_id'
       from ledger.decisions d join ledger.transfers t using (transfer_id)
      where d.state = 'COMMITTED' and d.decided_at < now() - make_interval(secs => $1)
        and (d.decided_at, d.transfer_id) > ($2, $3)
      order by d.decided_at, d.transfer_id limit $4`,
    [AGE_MS / 1000, ...after, limit],
  );
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
  const text = `select transfer_id from ledger.remote_legs where transfer_id = any ($1) and state = 'POSTED'
                union select transfer_id from ledger.quotes where transfer_id = any ($1) and state = 'USED'`;
  const rows = await rowsOf<[string]>(handle, "read-posted-transfers", text, [uuids]);
  return new Set(rows.map(([uuid]) => uuid));
}

function run(handle: ShardHandle, command: LedgerCommand) {
  return submit(handle, command, LANE, performance.now() + COMMAND_TIMEOUT_MS);
}
