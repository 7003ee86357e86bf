import { BackOff, pause } from "#lib/back-off.ts";
import type { Context, ShardHandle } from "#services/ledger/context.ts";

/**
 * What the workers share that finish, on every shard, what waits in its tables (recover.ts, expire-holds.ts). They know nothing but
 * what the shards have written, need no leader, and may run many times at once: everything they do may be done twice.
 */
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 2_000;
/** Several pages a round: rows that cannot be dealt with now must not keep others from their turn. */
const PAGE_ROWS = 200;
const MAX_PAGES_PER_ROUND = 25;
const FIRST: Cursor = ["-infinity", "00000000-0000-0000-0000-000000000000"];

/** Rows that wait are read in the order of the time since when, then of their id. */
export type Cursor = readonly [since: string, uuid: string];
type WaitingRow = readonly [uuid: string, since: string, ...more: unknown[]];

/** Works on every shard, round by round, until the signal aborts. A round that fails is repeated later, with a warning. */
export async function workOnEveryShard(
  ctx: Context,
  signal: AbortSignal,
  worker: { readonly intervalMs: number; readonly complaint: string; round(handle: ShardHandle): Promise<void> },
): Promise<void> {
  await Promise.all(ctx.shards.map((handle) => workOnShard(ctx, handle, signal, worker)));
}

async function workOnShard(
  ctx: Context,
  handle: ShardHandle,
  signal: AbortSignal,
  { intervalMs, complaint, round }: Parameters<typeof workOnEveryShard>[2],
): Promise<void> {
  const backOff = new BackOff(FIRST_RETRY_MS, MAX_RETRY_MS);
  while (!signal.aborted) {
    try {
      await round(handle);
      backOff.reset();
      await pause(intervalMs, signal);
    } catch (error) {
      ctx.log.warn({ shard: handle.shard.number, error: String(error) }, complaint);
      await backOff.wait(signal);
    }
  }
}

/** Deals with the rows that wait, page by page, each read after the last one of the page before. Answers how many there were. */
export async function forEachPage<Row extends WaitingRow>(
  read: (after: Cursor, limit: number) => Promise<readonly Row[]>,
  deal: (rows: readonly Row[]) => Promise<unknown>,
): Promise<number> {
  let after = FIRST;
  let found = 0;
  for (let page = 0; page < MAX_PAGES_PER_ROUND; page += 1) {
    const rows = await read(after, PAGE_ROWS);
    const last = rows.at(-1);
    if (last === undefined) break;
    after = [last[1], last[0]];
    await deal(rows);
    found += rows.length;
    if (rows.length < PAGE_ROWS) break;
  }
  return found;
}

/** The rows of one statement on the shard, as arrays. Throws when the shard does not answer. */
export async function rowsOf<Row extends unknown[]>(
  { shard }: ShardHandle,
  name: string,
  text: string,
  values: readonly unknown[],
): Promise<Row[]> {
  const { rows } = await shard.reads.query<Row>({ name, text, values: [...values], rowMode: "array" });
  return rows;
}
