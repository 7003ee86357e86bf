import { unlessAborted } from "#lib/back-off.ts";
import { uuidToId } from "#lib/ids.ts";
import { malformed, Refusal } from "#lib/refusal.ts";
import type {
  ListRevokedSessionsRequest,
  ListRevokedSessionsResponse,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Shard } from "#services/identity/shard.ts";

/** A minute more than a token lives. */
const KEPT_SECONDS = 11 * 60;
/**
 * A revocation becomes visible with its commit, and carries the time of its transaction's begin. Postgres ends our transactions
 * after 10 s (infra/postgres/migrate.ts), so whoever reads again what is younger than this misses none.
 */
const OVERLAP_SECONDS = 15;
const PAGE_ROWS = 2_000;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";

/** A shard that needs longer does not keep the others' from being told. */
const SHARD_TIMEOUT_MS = 3_000;

/** Where a shard's next page begins: after this time and session; null: with all that are young enough. */
type ShardCursor = readonly [since: string, sessionUuid: string] | null;

export async function listRevokedSessions(
  ctx: Pick<Context, "shards" | "bucketMap">,
  { cursor }: ListRevokedSessionsRequest,
): Promise<ListRevokedSessionsResponse> {
  const after = cursor === "" ? [] : parseCursor(cursor, ctx.shards.length);
  const pages = await Promise.all(ctx.shards.map((shard, index) => tryPage(shard, after[index] ?? null)));
  const away = pages.filter((page) => page instanceof Refusal);
  if (away.length === pages.length) throw away[0];
  const read = pages.filter((page): page is Page => !(page instanceof Refusal));
  return {
    sessionIds: read.flatMap(({ sessionIds }) => sessionIds),
    cursor: Buffer.from(
      JSON.stringify(pages.map((page, index) => (page instanceof Refusal ? (after[index] ?? null) : page.next))),
    ).toString("base64url"),
    hasMore: read.some(({ isFull }) => isFull),
    unreadable: ctx.bucketMap.ranges
      .filter(({ shard }) => pages[shard - 1] instanceof Refusal)
      .map(({ firstBucket, lastBucket }) => ({ first: firstBucket, last: lastBucket })),
  };
}

/** The refusal instead when the shard does not answer in time. */
async function tryPage(shard: Shard, after: ShardCursor): Promise<Page | Refusal> {
  const timeout = AbortSignal.timeout(SHARD_TIMEOUT_MS);
  try {
    return await unlessAborted(readPage(shard, after), timeout);
  } catch (error) {
    if (error instanceof Refusal) return error;
    if (timeout.aborted && error === timeout.reason) return refusals.shardUnavailable(shard.number);
    throw error;
  }
}

interface Page {
  readonly sessionIds: string[];
  readonly next: ShardCursor;
  readonly isFull: boolean;
}

async function readPage(shard: Shard, after: ShardCursor): Promise<Page> {
  const rows = await shard.read<{ session_id: string | null; revoked_at: string | null; again_from: string }>(
    `select s.session_id, s.revoked_at::text, (now() - make_interval(secs => $3))::text as again_from
       from (select) clock left join lateral (
         select session_id, revoked_at from identity.sessions
          where state = 'REVOKED'
            and (revoked_at, session_id) > (coalesce($1::timestamptz, now() - make_interval(secs => $4)), $2::uuid)
          order by revoked_at, session_id limit $5) s on true`,
    [after?.[0] ?? null, after?.[1] ?? FIRST_UUID, OVERLAP_SECONDS, KEPT_SECONDS, PAGE_ROWS],
  );
  const found = rows.flatMap(({ session_id, revoked_at }) => (session_id === null ? [] : [[revoked_at, session_id]]));
  const isFull = found.length === PAGE_ROWS;
  return {
    sessionIds: found.map(([, uuid]) => uuidToId("sess", uuid as string)),
    next: isFull ? (found.at(-1) as unknown as ShardCursor) : [rows[0]?.again_from as string, FIRST_UUID],
    isFull,
  };
}

/** Internal callers only: it need not be signed, but it must not reach Postgres as anything else. */
function parseCursor(text: string, shards: number): ShardCursor[] {
  const invalid = () => malformed([{ field: "cursor", description: "is not the cursor of an earlier answer" }]);
  try {
    const cursors = JSON.parse(Buffer.from(text, "base64url").toString()) as unknown;
    if (!Array.isArray(cursors) || cursors.length !== shards) throw invalid();
    for (const cursor of cursors as unknown[]) {
      if (cursor === null) continue;
      const [since, uuid] = cursor as [unknown, unknown];
      if (typeof since !== "string" || Number.isNaN(Date.parse(since))) throw invalid();
      if (typeof uuid !== "string" || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)) throw invalid();
    }
    return cursors as ShardCursor[];
  } catch {
    throw invalid();
  }
}
