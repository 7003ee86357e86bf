import { pause } from "#lib/back-off.ts";
import { shardNumbers } from "#tests/stack.ts";
import type { Finding } from "#tests/torture/history.ts";
import { ask } from "#tests/torture/superuser.ts";

/**
 * What must hold between shards at any moment, faults or not. Decisions are read first and legs after them, so that
 * what is seen of the legs is never older: a decision that is closed has all of its legs posted, one that is committed
 * has none that is released, one that is aborted has none that is posted.
 */
const INTERVAL_MS = 700;
/** Decisions of so long are looked at again and again. */
const WINDOW = "20 seconds";

const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  CLOSED: ["PREPARED", "RELEASED"],
  COMMITTED: ["RELEASED"],
  ABORTED: ["POSTED"],
};

/** Looks until the signal aborts. A shard that does not answer is left out of a look. */
export async function watch(signal: AbortSignal, found: (findings: readonly Finding[]) => void): Promise<void> {
  while (!signal.aborted) {
    found(await look());
    await pause(INTERVAL_MS, signal);
  }
}

async function look(): Promise<Finding[]> {
  const decisions = await everywhere(
    `select transfer_id, state from ledger.decisions where decided_at > now() - interval '${WINDOW}'`,
  );
  if (decisions.length === 0) return [];
  const legs = await everywhere("select transfer_id, state from ledger.remote_legs where transfer_id = any ($1)", [
    decisions.map(({ id }) => id),
  ]);
  const decisionOf = new Map(decisions.map(({ id, state }) => [id, state]));
  return legs.flatMap(({ id, state }) => {
    const decision = decisionOf.get(id) ?? "";
    if (FORBIDDEN[decision]?.includes(state) !== true) return [];
    return [{ what: `a decision is ${decision} and a leg of it ${state}`, ids: [id] }];
  });
}

async function everywhere(sql: string, values: readonly unknown[] = []): Promise<{ id: string; state: string }[]> {
  const answers = await Promise.all(shardNumbers.map((shard) => ask(shard, sql, values)));
  return answers.flatMap((rows) =>
    (rows ?? []).map((row) => ({ id: String(row.transfer_id), state: String(row.state) })),
  );
}
