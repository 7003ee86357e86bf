import { timingSafeEqual } from "node:crypto";
import type { PoolClient } from "pg";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { bucketOfUuid, idToUuid, uuidToId } from "#lib/ids.ts";
import type { RefreshSessionRequest, SessionTokens } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import {
  nextRefreshToken,
  type RefreshToken,
  readRefreshToken,
  refreshHash,
} from "#services/identity/refresh-token.ts";
import { refusals } from "#services/identity/refusals.ts";
import { revokeSession } from "#services/identity/revoke-sessions.ts";
import { type Session, sessionTokens } from "#services/identity/session-tokens.ts";
import { tellOfEndedSessions } from "#services/identity/tell.ts";

const REPEATED_FOR_SECONDS = 60;

/**
 * A session's refresh token, number n, is in one of these states, decided under the lock of the session's row:
 *
 *   CURRENT   n is the session's number and the secret is the stored one: n + 1 takes its place
 *   REPEATED  n + 1 is the session's number, for a minute at most, and follows from this token and this idempotency key: the
 *             answer was lost
 *   REUSED    any other number that is below the session's: one of the two has stolen it, so the session ends
 *   OVER      the session is revoked or expired
 */
export async function refreshSession(ctx: Context, request: RefreshSessionRequest, call: Call): Promise<SessionTokens> {
  const hasKey = call.idempotencyKey !== undefined || request.idempotencyKey !== "";
  const key = hasKey ? idempotencyKeyOf(call, request.idempotencyKey) : undefined;
  const token = readRefreshToken(ctx.keys, request.refreshToken);
  if (token === undefined) throw refusals.refreshTokenInvalid();
  const next = nextRefreshToken(ctx.keys, token, key);
  // Before the token is used up.
  ctx.signingKeys.active();
  const sessionUuid = idToUuid(token.sessionId);
  const outcome = await ctx.shardOfBucket(bucketOfUuid(sessionUuid)).transact(async (db) => {
    const row = await lockSession(db, sessionUuid);
    const state = row === undefined ? "OVER" : stateOf(row, token, next);
    if (state === "CURRENT") await replaceToken(db, sessionUuid, next);
    if (state === "REUSED") await tellOfEndedSessions(db, await revokeSession(db, "REFRESH_TOKEN_REUSED", sessionUuid));
    return { state, row };
  });
  const { state, row } = outcome;
  if (row === undefined || state === "REUSED" || state === "OVER") {
    if (state === "REUSED")
      ctx.log.warn({ session: token.sessionId }, "a refresh token came twice; its session is ended");
    throw refusals.refreshTokenInvalid();
  }
  if (state === "REPEATED") call.markReplayed();
  const session: Session = {
    sessionId: token.sessionId,
    userId: uuidToId("user", row.user_id),
    role: row.role,
    secondFactor: row.second_factor,
    expiresAt: row.expires_at,
  };
  return sessionTokens(ctx, session, next);
}

interface SessionRow {
  readonly user_id: string;
  readonly role: Session["role"];
  readonly second_factor: boolean;
  readonly expires_at: Date;
  readonly is_over: boolean;
  readonly refresh_number: number;
  readonly may_repeat: boolean;
  readonly refresh_hash: Buffer;
}

async function lockSession(db: PoolClient, sessionUuid: string): Promise<SessionRow | undefined> {
  const { rows } = await db.query<SessionRow>(
    `select user_id, role, second_factor, expires_at, refresh_number, refresh_hash,
            (state <> 'ACTIVE' or expires_at <= clock_timestamp()) as is_over,
            refreshed_at > clock_timestamp() - make_interval(secs => $2) as may_repeat
       from identity.sessions where session_id = $1 for update`,
    [sessionUuid, REPEATED_FOR_SECONDS],
  );
  return rows[0];
}

function stateOf(row: SessionRow, token: RefreshToken, next: RefreshToken): "CURRENT" | "REPEATED" | "REUSED" | "OVER" {
  if (row.is_over) return "OVER";
  if (token.number === row.refresh_number) {
    return timingSafeEqual(refreshHash(token), row.refresh_hash) ? "CURRENT" : "OVER";
  }
  // A number that was never given out: of a database that was set back.
  if (token.number > row.refresh_number) return "OVER";
  const isRepeated = next.number === row.refresh_number && timingSafeEqual(refreshHash(next), row.refresh_hash);
  return isRepeated && row.may_repeat ? "REPEATED" : "REUSED";
}

async function replaceToken(db: PoolClient, sessionUuid: string, next: RefreshToken): Promise<void> {
  await db.query(
    `update identity.sessions set refresh_number = $2, refresh_hash = $3, refreshed_at = now(), last_used_at = now()
      where session_id = $1`,
    [sessionUuid, next.number, refreshHash(next)],
  );
}
