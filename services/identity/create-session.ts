import type { PoolClient } from "pg";
import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { bucketOfUuid, idToUuid, uuidToId } from "#lib/ids.ts";
import type { CreateSessionRequest, SessionTokens } from "#proto/ledgermesh/identity/v1/identity.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import type { Context } from "#services/identity/context.ts";
import { bucketOfEmailKey, normalizeEmail } from "#services/identity/email-address.ts";
import { type Client, clientOf, noteFailureLater, noteLogin } from "#services/identity/note-login.ts";
import { checkGivenPassword, normalizePassword } from "#services/identity/password-rules.ts";
import { firstRefreshToken, refreshHash } from "#services/identity/refresh-token.ts";
import { refusals } from "#services/identity/refusals.ts";
import { answerChallenge, challengeIfEnrolled } from "#services/identity/second-factor.ts";
import { type Session, sessionTokens } from "#services/identity/session-tokens.ts";
import { returnSignInAttempt, takeSignInAttempt } from "#services/identity/sign-in-limit.ts";
import { laneOf, takeAttempt } from "#services/identity/take-attempt.ts";

/** After so long a session needs the password again, however often it was refreshed. */
const SESSION_HOURS = { USER: 30 * 24, MERCHANT: 30 * 24, OPERATOR: 12 } as const;

/**
 * The limits come first, since a hash is costly. Then every step is taken for an address that nobody has as well: the same
 * look-ups, a hash of the same cost, and nothing written before the answer.
 */
export async function createSession(ctx: Context, request: CreateSessionRequest, call: Call): Promise<SessionTokens> {
  const client = clientOf(call);
  takeAttempt(ctx, call);
  if (request.challengeId !== "") {
    const user = await answerChallenge(ctx, request, client);
    return openSession(ctx, user, true, client);
  }
  const { email, password } = parse(request);
  const emailKey = ctx.keys.emailKey(email);
  const bucket = bucketOfEmailKey(emailKey);
  await takeSignInAttempt(ctx, emailKey, bucket);
  const user = await findUser(ctx, emailKey, bucket);
  if (!(await ctx.passwords.verify(user?.password_hash, password, laneOf(call))) || user === undefined) {
    if (user !== undefined) noteFailureLater(ctx, { ...attemptOf(user, client), failure: "WRONG_PASSWORD" });
    throw refusals.credentialsInvalid();
  }
  await returnSignInAttempt(ctx, emailKey, bucket);
  const challengeId = await challengeIfEnrolled(ctx, user);
  if (challengeId !== undefined) throw refusals.secondFactorRequired(challengeId);
  return openSession(ctx, user, false, client);
}

/** Throws INVALID_ARGUMENT. */
function parse(request: CreateSessionRequest): { email: string; password: string } {
  const check = new FieldCheck();
  const email = normalizeEmail(request.email);
  const password = normalizePassword(request.password);
  check.require(email !== undefined, "email", "must be an e-mail address, such as ada@example.com");
  checkGivenPassword(check, "password", password);
  for (const field of ["totp_code", "recovery_code"] as const) {
    const given = field === "totp_code" ? request.totpCode : request.recoveryCode;
    check.require(given === "", field, "goes with challenge_id");
  }
  check.done();
  return { email: email as string, password };
}

/** Somebody whose password was right. */
export interface SigningInUser {
  readonly user_id: string;
  readonly role: Session["role"];
  /** That it was right for. */
  readonly password_hash: string;
}

/** There is no user like this. */
const NOBODY = "00000000-0000-7000-8000-000000000000";

async function findUser(ctx: Context, emailKey: Buffer, bucket: number): Promise<SigningInUser | undefined> {
  const [row] = await ctx
    .shardOfBucket(bucket)
    .read<{ user_id: string }>(
      "select user_id from identity.login_directory where email_key = $1 and state = 'ACTIVE'",
      [emailKey],
    );
  const userUuid = row?.user_id ?? NOBODY;
  const [user] = await ctx
    .shardOfBucket(row === undefined ? bucket : bucketOfUuid(userUuid))
    .read<SigningInUser>(
      "select user_id, role, password_hash from identity.users where user_id = $1 and status = 'ACTIVE'",
      [userUuid],
    );
  return user;
}

function attemptOf(user: SigningInUser, client: Client) {
  return { userUuid: user.user_id, bucket: bucketOfUuid(user.user_id), client, sessionUuid: undefined };
}

async function openSession(
  ctx: Context,
  user: SigningInUser,
  secondFactor: boolean,
  client: Client,
): Promise<SessionTokens> {
  const bucket = bucketOfUuid(user.user_id);
  const sessionId = ctx.newId("sess", bucket);
  const refreshToken = firstRefreshToken(sessionId);
  // Before anything is written: without a key there is no session.
  ctx.signingKeys.active();
  const expiresAt = await ctx.shardOfBucket(bucket).transact(async (db) => {
    const inserted = await insertSession(db, user, sessionId, refreshHash(refreshToken), secondFactor, client);
    await noteLogin(ctx, db, {
      ...attemptOf(user, client),
      failure: undefined,
      sessionUuid: idToUuid(sessionId),
    });
    await addIdentityEvent(db, {
      type: "session_created",
      bucket,
      aggregateId: sessionId,
      aggregateVersion: 1n,
      payload: { sessionId, userId: uuidToId("user", user.user_id), secondFactor },
    });
    return inserted;
  });
  const userId = uuidToId("user", user.user_id);
  return sessionTokens(ctx, { sessionId, userId, role: user.role, secondFactor, expiresAt }, refreshToken);
}

async function insertSession(
  db: PoolClient,
  user: SigningInUser,
  sessionId: string,
  hash: Buffer,
  secondFactor: boolean,
  client: Client,
): Promise<Date> {
  // The user's row is locked: whoever closes it or changes password or role ends this session too, or comes first, and then it is
  // not made.
  const { rows } = await db.query<{ expires_at: Date }>(
    `with u as (select user_id, bucket, role from identity.users
                 where user_id = $2 and status = 'ACTIVE' and role = $3 and password_hash = $9 for share)
     insert into identity.sessions (session_id, bucket, user_id, state, role, second_factor, refresh_hash, address, user_agent,
                                    expires_at)
     select $1, u.bucket, u.user_id, 'ACTIVE', u.role, $4, $5, $6, $7, now() + make_interval(hours => $8) from u
     returning expires_at`,
    [
      idToUuid(sessionId),
      user.user_id,
      user.role,
      secondFactor,
      hash,
      client.address,
      client.userAgent,
      SESSION_HOURS[user.role],
      user.password_hash,
    ],
  );
  const [row] = rows;
  if (row === undefined) throw refusals.credentialsInvalid();
  return row.expires_at;
}
