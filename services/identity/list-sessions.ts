import { checkPageSize, FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { ListSessionsRequest, ListSessionsResponse } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { selfOf } from "#services/identity/self.ts";
import { SESSION_COLUMNS, type SessionRow, toSession } from "#services/identity/session.ts";

/** Above every session's. */
const LAST_UUID = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/** Ids sort by the time of the sign-in: a page begins below the last id of the page before. */
export async function listSessions(
  ctx: Context,
  { pageSize, pageToken }: ListSessionsRequest,
  call: Call,
): Promise<ListSessionsResponse> {
  const self = selfOf(call);
  const check = new FieldCheck();
  const size = checkPageSize(check, pageSize);
  check.done();
  const scope = ["ListSessions", call.caller];
  const below = pageToken === "" ? LAST_UUID : (ctx.pageTokens.open(scope, pageToken)[0] as string);
  const rows = await ctx.shardOfBucket(self.bucket).read<SessionRow>(
    `select ${SESSION_COLUMNS} from identity.sessions
      where user_id = $1 and session_id < $2 and state = 'ACTIVE' and expires_at > now()
      order by session_id desc limit $3`,
    [self.userUuid, below, size + 1],
  );
  const page = rows.slice(0, size);
  const hasMore = rows.length > size;
  return {
    sessions: page.map((row) => toSession(row, self)),
    nextPageToken: hasMore ? ctx.pageTokens.seal(scope, [page.at(-1)?.session_id as string]) : "",
    hasMore,
  };
}
