import { pause } from "#lib/back-off.ts";
import { postgres, shardNumbers } from "#tests/stack.ts";
import type { Finding } from "#tests/torture/history.ts";

/** Waiting, when all faults are lifted and no client asks, until the ledger has finished what was left half way. */

const POLL_MS = 250;
/** So long nothing was written: more than any pause of the ledger between two tries. */
const STILL_MS = 2_500;
const IDS = 10;

const UNFINISHED = `
  select 'a leg is still PREPARED' as what, transfer_id::text as id from ledger.remote_legs where state = 'PREPARED'
  union all
  select 'a decision is still COMMITTED', transfer_id::text from ledger.decisions where state = 'COMMITTED'
  union all
  select 'a quote is still RESERVED', quote_id::text from ledger.quotes where state = 'RESERVED'
  union all
  select 'a reversal is not noted yet', transfer_id::text from ledger.refunded_postings where state = 'EXHAUSTED'`;

/** Answers what was not finished in time; nothing when all is well. */
export async function whenQuiet(timeoutMs: number): Promise<Finding[]> {
  const never = new AbortController().signal;
  const deadlineMs = performance.now() + timeoutMs;
  let heads = "";
  let stillSinceMs = performance.now();
  let unfinished: readonly { what: string; id: string }[] = [];
  while (performance.now() < deadlineMs) {
    try {
      const rows = await Promise.all(shardNumbers.map((shard) => postgres(shard).query(UNFINISHED)));
      unfinished = rows.flatMap((result) => result.rows);
      const now = await readHeads();
      if (now !== heads || unfinished.length > 0) [heads, stillSinceMs] = [now, performance.now()];
      else if (performance.now() - stillSinceMs > STILL_MS) return [];
    } catch {
      // A shard that is not back yet.
      stillSinceMs = performance.now();
    }
    await pause(POLL_MS, never);
  }
  const byWhat = Map.groupBy(unfinished, ({ what }) => what);
  if (byWhat.size === 0) return [{ what: `the shards are not still after ${timeoutMs / 1_000} s`, ids: [heads] }];
  return [...byWhat].map(([what, found]) => ({ what, ids: found.slice(0, IDS).map(({ id }) => id) }));
}

async function readHeads(): Promise<string> {
  const results = await Promise.all(
    shardNumbers.map((shard) => postgres(shard).query("select sequence::text from ledger.shard_head")),
  );
  return results.map(({ rows }) => rows[0]?.sequence).join(" ");
}
