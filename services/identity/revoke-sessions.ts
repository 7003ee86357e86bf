import type { PoolClient } from "pg";

/**
 * Ending sessions: from the commit on nothing refreshes them, and every service hears of it within half a minute
 * (list-revoked-sessions.ts). What is ended already stays as it is.
 */
type Reason = "SIGNED_OUT" | "REFRESH_TOKEN_REUSED" | "PASSWORD_CHANGED" | "ROLE_CHANGED" | "USER_CLOSED";

const END =
  "update identity.sessions set state = 'REVOKED', revoked_at = now(), revoke_reason = $1 where state = 'ACTIVE'";

/** Ends one session. */
export async function revokeSession(db: PoolClient, reason: Reason, sessionUuid: string): Promise<void> {
  await db.query(`${END} and session_id = $2`, [reason, sessionUuid]);
}

/** Ends all sessions of a user, except one perhaps. */
export async function revokeSessionsOf(
  db: PoolClient,
  reason: Reason,
  userUuid: string,
  exceptSessionUuid?: string,
): Promise<void> {
  await db.query(`${END} and user_id = $2 and session_id is distinct from $3`, [
    reason,
    userUuid,
    exceptSessionUuid ?? null,
  ]);
}
