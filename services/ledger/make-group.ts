import { Defect, Refusal } from "#lib/refusal.ts";
import type { CommandOutcome, GroupCommand } from "#services/ledger/command.ts";
import { canonicalHash } from "#services/ledger/command-key.ts";
import type { Context } from "#services/ledger/context.ts";
import { NOTHING_ELSEWHERE, postDecided, release } from "#services/ledger/cross-shard.ts";
import { refuseGroup } from "#services/ledger/evaluate-group.ts";
import {
  homeOfOrder,
  type MadeTransfer,
  type PreparedTransfer,
  positionOf,
  prepareTransfer,
  type TransferOrder,
} from "#services/ledger/make-transfer.ts";
import type { TransferCommand } from "#services/ledger/transfer.ts";

/**
 * The way of a group: transfers of which all are made, or none. They are decided by one command of one shard, that of the
 * first debit account, whatever the others debit; so all of them have their keys and their ids in that account's bucket.
 * Between shards each member is prepared and posted as a transfer of its own (cross-shard.ts); one commit decides them all.
 */
export interface PreparedGroup {
  readonly members: readonly PreparedTransfer[];
}

/** The members that are well formed and know their shards; or what each of them is refused with. */
export async function prepareGroup(
  ctx: Context,
  name: string,
  orders: readonly TransferOrder[],
): Promise<PreparedGroup | readonly Refusal[]> {
  const [first] = orders;
  if (first === undefined) throw new Defect("a group without members");
  const keys = orders.map(({ idempotencyKey }) => idempotencyKey);
  const whole = canonicalHash([
    name,
    orders.map(({ parsed }, at) => [keys[at], parsed.fingerprint.toString("base64")]),
  ]);
  const refused = (at: number, error: unknown) => {
    if (!(error instanceof Refusal)) throw error;
    return refuseGroup(
      orders.map((_, index) => (index === at ? error : undefined)),
      keys,
    );
  };
  let home: Awaited<ReturnType<typeof homeOfOrder>>;
  try {
    home = await homeOfOrder(ctx, first);
  } catch (error) {
    return refused(0, error);
  }
  const prepared = await Promise.allSettled(
    orders.map((order, at) => {
      // Bound to the whole group: a key of it can be used neither alone nor in another one.
      const fingerprint = canonicalHash([whole.toString("base64"), at]);
      return prepareTransfer(ctx, { ...order, parsed: { ...order.parsed, fingerprint } }, home);
    }),
  );
  const members: PreparedTransfer[] = [];
  for (const [at, result] of prepared.entries()) {
    if (result.status === "rejected") return refused(at, result.reason);
    members.push(result.value);
  }
  return { members };
}

/** Queues the group at once, as `submitTransfer` does; `refusedElsewhere` has the answer of `prepareElsewhere` for each member. */
export async function submitGroup(
  ctx: Context,
  { members: prepared }: PreparedGroup,
  refusedElsewhere: readonly TransferCommand["refusedElsewhere"][],
): Promise<MadeTransfer[]> {
  const [first] = prepared;
  if (first === undefined) throw new Defect("a group without members");
  const members = prepared.map(({ command }, index) => ({ ...command, refusedElsewhere: refusedElsewhere[index] }));
  const command: GroupCommand = {
    kind: "group",
    key: undefined,
    name: first.command.name,
    weight: members.reduce((sum, { weight }) => sum + weight, 0),
    accounts: members.flatMap(({ accounts }) => accounts),
    members,
  };
  let outcome: CommandOutcome;
  try {
    outcome = await first.handle.commands.submit(command, first.lane, first.deadlineMs);
  } catch (error) {
    for (const { command: member, remotes } of prepared) release(member.transferId, remotes);
    throw error;
  }
  const outcomes = outcomesOf(outcome, members.length);
  return Promise.all(
    prepared.map((member, index) => {
      const own = outcomes[index] as CommandOutcome;
      if (member.command.crossShard) return postDecided(ctx, member, own);
      const { handle } = member;
      return { outcome: own, command: member.command, elsewhere: NOTHING_ELSEWHERE, position: positionOf(handle, own) };
    }),
  );
}

function outcomesOf(outcome: CommandOutcome, count: number): readonly CommandOutcome[] {
  if (outcome.kind !== "done") return Array.from({ length: count }, () => outcome);
  if (outcome.answer.kind !== "group") throw new Defect(`a group was answered with ${outcome.answer.kind}`);
  return outcome.answer.members;
}
