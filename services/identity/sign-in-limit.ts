import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";

/**
 * Attempts to sign in with one e-mail address, known or not, over all processes: a token bucket in Postgres. An address has ten
 * attempts at once, and one more each six seconds. Who signs in gets theirs back.
 */
const BURST = 10;
const PER_SECOND = 1 / 6;

/** Takes an attempt. Throws TOO_MANY_ATTEMPTS. */
export async function takeSignInAttempt(ctx: Context, emailKey: Buffer, bucket: number): Promise<void> {
  const [row] = await ctx.shardOfBucket(bucket).transact(async (db) => {
    const { rows } = await db.query<{ taken: boolean; tokens: number }>(
      "select * from identity.take_sign_in_attempt($1, $2, $3, $4)",
      [emailKey, bucket, BURST, PER_SECOND],
    );
    return rows;
  });
  if (row?.taken !== true) throw refusals.tooManyAttempts(Math.ceil(((1 - (row?.tokens ?? 0)) / PER_SECOND) * 1000));
}

/** Gives it back: the password was right. */
export async function returnSignInAttempt(ctx: Context, emailKey: Buffer, bucket: number): Promise<void> {
  await ctx
    .shardOfBucket(bucket)
    .transact((db) =>
      db.query("update identity.sign_in_limits set tokens = least($2, tokens + 1) where email_key = $1", [
        emailKey,
        BURST,
      ]),
    );
}
