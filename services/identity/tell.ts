import type { PoolClient } from "pg";
import { bucketOfUuid, uuidToId } from "#lib/ids.ts";
import { Defect } from "#lib/refusal.ts";
import { CallerRole } from "#proto/ledgermesh/options/v1/callers.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";

/**
 * Telling the rest of the system what became of a user and their sessions, in the transaction of the change and last in it: from
 * the first event on, every other commit with one waits (add-identity-event.ts).
 */
export type UserChange =
  | { readonly type: "user_created" | "user_closed" }
  | {
      readonly type: "user_updated";
      /** Their names, as in the contract; never what they hold. */
      readonly changedFields: readonly string[];
    };

/** Tells of a user as the transaction leaves them. */
export async function tellOfUser(db: PoolClient, userUuid: string, change: UserChange): Promise<void> {
  const { rows } = await db.query<{ bucket: number; role: "USER" | "MERCHANT" | "OPERATOR"; version: string }>(
    "select bucket, role, version from identity.users where user_id = $1",
    [userUuid],
  );
  const [user] = rows;
  if (user === undefined) throw new Defect(`a change is told of ${userUuid}, whom there is not`);
  const userId = uuidToId("user", userUuid);
  const about = { bucket: user.bucket, aggregateId: userId, aggregateVersion: BigInt(user.version) };
  switch (change.type) {
    case "user_created":
      await addIdentityEvent(db, { ...about, type: change.type, payload: { userId, role: CallerRole[user.role] } });
      break;
    case "user_updated":
      await addIdentityEvent(db, {
        ...about,
        type: change.type,
        payload: { userId, changedFields: [...change.changedFields] },
      });
      break;
    case "user_closed":
      await addIdentityEvent(db, { ...about, type: change.type, payload: { userId } });
      break;
  }
}

/** A session that this transaction has ended. */
export interface EndedSession {
  readonly session_id: string;
  readonly user_id: string;
  readonly revoke_reason: string;
}

const CREATED_AND_ENDED = 2n;

/** Tells of ended sessions. */
export async function tellOfEndedSessions(db: PoolClient, sessions: readonly EndedSession[]): Promise<void> {
  for (const { session_id, user_id, revoke_reason } of sessions) {
    const [sessionId, userId] = [uuidToId("sess", session_id), uuidToId("user", user_id)];
    await addIdentityEvent(db, {
      type: "session_revoked",
      bucket: bucketOfUuid(user_id),
      aggregateId: sessionId,
      aggregateVersion: CREATED_AND_ENDED,
      payload: { sessionId, userId, reason: revoke_reason },
    });
  }
}
