import type { PoolClient } from "pg";
import type { EndedSession } from "#services/identity/tell.ts";

/**
 * Ending sessions: from the commit on nothing refreshes them, and every service hears of it within half a minute
 * (list-revoked-sessions.ts). What is ended already stays as it is.
 */
type Reason = "SIGNED_OUT" | "REFRESH_TOKEN_REUSED" | "PASSWORD_CHANGED" | "ROLE_CHANGED" | "USER_CLOSED";

const END =
  "update identity.sessions set state = 'REVOKED', revoked_at = now(), revoke_reason = $1 where state = 'ACTIVE'";
const ENDED = "returning session_id, user_id, revoke_reason";

/** Ends one session. Answers what there is to tell of (tell.ts): it, unless it was over before. */
export async function revokeSession(db: PoolClient, reason: Reason, sessionUuid: string): Promise<EndedSession[]> {
  const { rows } = await db.query<EndedSession>(`${END} and session_id = $2 ${ENDED}`, [reason, sessionUuid]);
  return rows;
}

/** Ends all sessions of a user, except one perhaps. Answers those that were not over before, to be told of (tell.ts). */
export async function revokeSessionsOf(
  db: PoolClient,
  reason: Reason,
  userUuid: string,
  exceptSessionUuid?: string,
): Promise<EndedSession[]> {
  const { rows } = await db.query<EndedSession>(`${END} and user_id = $2 and session_id is distinct from $3 ${ENDED}`, [
    reason,
    userUuid,
    exceptSessionUuid ?? null,
  ]);
  return rows;
}
