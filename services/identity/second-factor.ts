import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { bucketOfUuid, idToUuid, parseId, uuidToId } from "#lib/ids.ts";
import type { CreateSessionRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import type { SigningInUser } from "#services/identity/create-session.ts";
import { type Client, noteFailureLater } from "#services/identity/note-login.ts";
import { refusals } from "#services/identity/refusals.ts";
import { type FactorOutcome, parseFactor, requireAccepted, useFactor } from "#services/identity/totp.ts";

/**
 * The second factor within a sign-in. Who has shown the password gets a challenge, `chal_….SECRET`, good for five minutes, for ten
 * codes, and once; the wrong codes of all of a user's challenges count together (totp.ts). A password that was changed since then
 * ends it.
 */
const CHALLENGE_MINUTES = 5;
const MAX_CODES = 10;
const SECRET_BYTES = 24;

/**
 * Whose password was right: the id of a new challenge when they have a second factor, otherwise undefined. Undefined as well when it
 * is their password no more, since the hash may have waited for seconds; then no session is made either.
 */
export async function challengeIfEnrolled(
  ctx: Context,
  { user_id, password_hash }: Pick<SigningInUser, "user_id" | "password_hash">,
): Promise<string | undefined> {
  const bucket = bucketOfUuid(user_id);
  const id = ctx.newId("chal", bucket);
  const secret = randomBytes(SECRET_BYTES).toString("base64url");
  const { rowCount } = await ctx.shardOfBucket(bucket).transact((db) =>
    // The user's row is locked: a change of the password comes first, or finds the challenge and deletes it.
    db.query(
      `insert into identity.login_challenges (challenge_id, bucket, user_id, secret_hash, expires_at)
       select $1, t.bucket, t.user_id, $3, now() + make_interval(mins => $4)
         from identity.totp t join identity.users u on u.user_id = t.user_id
        where t.user_id = $2 and t.state = 'ACTIVE' and u.status = 'ACTIVE' and u.password_hash = $5
          for share of u`,
      [idToUuid(id), user_id, hashOf(secret), CHALLENGE_MINUTES, password_hash],
    ),
  );
  return rowCount === 1 ? `${id}.${secret}` : undefined;
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

/** The user whose challenge the code answers. Throws CHALLENGE_INVALID, or what is wrong with the code. */
export async function answerChallenge(
  ctx: Context,
  request: CreateSessionRequest,
  client: Client,
): Promise<SigningInUser> {
  const factor = parseFactor(request);
  const [id = "", secret = ""] = request.challengeId.split(".");
  const challenge = parseId(id, "chal");
  if (challenge === undefined) throw refusals.challengeInvalid();

  const answered = await ctx.shardOfBucket(challenge.bucket).transact(async (db) => {
    const { rows } = await db.query<SigningInUser & { secret_hash: Buffer }>(
      `select u.user_id, u.role, u.password_hash, c.secret_hash
         from identity.login_challenges c join identity.users u on u.user_id = c.user_id
        where c.challenge_id = $1 and c.expires_at > now() and c.attempts < $2 and u.status = 'ACTIVE'
          and u.password_changed_at <= c.created_at
          for update of c`,
      [challenge.uuid, MAX_CODES],
    );
    const [row] = rows;
    if (row === undefined || !timingSafeEqual(row.secret_hash, hashOf(secret))) return undefined;
    const user = { userId: uuidToId("user", row.user_id), userUuid: row.user_id, bucket: challenge.bucket };
    // Before what takes the log's head.
    await db.query("update identity.login_challenges set attempts = attempts + 1 where challenge_id = $1", [
      challenge.uuid,
    ]);
    const outcome: FactorOutcome = await useFactor(ctx, db, user, "ACTIVE", factor);
    if (outcome.kind === "accepted") {
      await db.query("delete from identity.login_challenges where challenge_id = $1", [challenge.uuid]);
    }
    return { outcome, user: { user_id: row.user_id, role: row.role, password_hash: row.password_hash } };
  });
  if (answered === undefined) throw refusals.challengeInvalid();
  const { outcome, user } = answered;
  if (outcome.kind === "wrong" || outcome.kind === "locked") {
    const attempt = { userUuid: user.user_id, bucket: challenge.bucket, client, sessionUuid: undefined };
    noteFailureLater(ctx, { ...attempt, failure: "WRONG_SECOND_FACTOR" });
  }
  requireAccepted(outcome);
  return user;
}
