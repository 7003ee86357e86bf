import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import { malformed } from "#lib/refusal.ts";
import type { DeleteSessionRequest, Session } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import { revokeSession } from "#services/identity/revoke-sessions.ts";
import { selfOf } from "#services/identity/self.ts";
import { SESSION_COLUMNS, type SessionRow, toSession } from "#services/identity/session.ts";
import { tellOfEndedSessions } from "#services/identity/tell.ts";

export async function deleteSession(ctx: Context, { sessionId }: DeleteSessionRequest, call: Call): Promise<Session> {
  const self = selfOf(call);
  const session = parseId(sessionId, "sess");
  if (session === undefined) throw malformed([{ field: "session_id", description: "must be a session id (sess_…)" }]);
  // A session is in its user's bucket: with another bucket it is not theirs, and is looked for all the same.
  const row = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const isTheirs = `session_id = $1 and user_id = $2`;
    const ids = [session.uuid, self.userUuid];
    const { rowCount } = await db.query(`select from identity.sessions where ${isTheirs} for update`, ids);
    if (rowCount === 0) return undefined;
    const ended = await revokeSession(db, "SIGNED_OUT", session.uuid);
    const { rows } = await db.query<SessionRow>(
      `select ${SESSION_COLUMNS} from identity.sessions where ${isTheirs}`,
      ids,
    );
    await tellOfEndedSessions(db, ended);
    return rows[0];
  });
  if (row === undefined) throw refusals.sessionNotFound(sessionId);
  return toSession(row, self);
}
