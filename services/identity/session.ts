import { timeMsOfUuid, uuidToId } from "#lib/ids.ts";
import type { Session } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Self } from "#services/identity/self.ts";

/** A row of `identity.sessions`. */
export interface SessionRow {
  readonly session_id: string;
  readonly second_factor: boolean;
  readonly address: string;
  readonly user_agent: string;
  readonly last_used_at: Date;
  readonly expires_at: Date;
  readonly revoked_at: Date | null;
}

export const SESSION_COLUMNS = "session_id, second_factor, address, user_agent, last_used_at, expires_at, revoked_at";

/** A session as the API answers it. */
export function toSession(row: SessionRow, self: Self): Session {
  return {
    sessionId: uuidToId("sess", row.session_id),
    current: row.session_id === self.sessionUuid,
    secondFactor: row.second_factor,
    address: row.address,
    userAgent: row.user_agent,
    createTime: new Date(timeMsOfUuid(row.session_id)),
    lastUseTime: row.last_used_at,
    expireTime: row.expires_at,
    revokeTime: row.revoked_at ?? undefined,
  };
}
