import type { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { Context } from "#services/identity/context.ts";
import { bucketOfEmailKey } from "#services/identity/email-address.ts";
import { checkGivenPassword, normalizePassword } from "#services/identity/password-rules.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Self } from "#services/identity/self.ts";
import { returnSignInAttempt, takeSignInAttempt } from "#services/identity/sign-in-limit.ts";
import { laneOf, takeAttempt } from "#services/identity/take-attempt.ts";

/** A user who has shown the password once more, as what can be lost for ever needs it. */
export interface ProvedUser {
  readonly email: string;
  readonly email_key: Buffer;
  readonly directory_change_id: string | null;
  /** That it was right for: who writes checks that it still is. */
  readonly password_hash: string;
}

/** The password of a request in its one form. Notes a violation. */
export function parsePassword(check: FieldCheck, field: string, text: string): string {
  const password = normalizePassword(text);
  checkGivenPassword(check, field, password);
  return password;
}

/**
 * Checks the caller's password. Attempts count like those to sign in: who has stolen an access token cannot guess on.
 * Throws PASSWORD_WRONG, TOO_MANY_ATTEMPTS, SIGN_IN_OVERLOADED, USER_NOT_FOUND.
 */
export async function provePassword(ctx: Context, call: Call, self: Self, password: string): Promise<ProvedUser> {
  const [user] = await ctx.shardOfBucket(self.bucket).read<ProvedUser>(
    `select email, email_key, directory_change_id, password_hash from identity.users
        where user_id = $1 and status = 'ACTIVE'`,
    [self.userUuid],
  );
  if (user === undefined) throw refusals.userNotFound();
  takeAttempt(ctx, call);
  const bucket = bucketOfEmailKey(user.email_key);
  await takeSignInAttempt(ctx, user.email_key, bucket);
  if (!(await ctx.passwords.verify(user.password_hash, password, laneOf(call)))) throw refusals.passwordWrong();
  await returnSignInAttempt(ctx, user.email_key, bucket);
  return user;
}
