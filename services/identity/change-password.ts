import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import type { ChangePasswordRequest, User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { claimKey, wasDone } from "#services/identity/claim-key.ts";
import type { Context } from "#services/identity/context.ts";
import { cancelWaitingChanges } from "#services/identity/email-change.ts";
import { emails, queueEmail } from "#services/identity/outgoing-email.ts";
import { checkPasswordLength, normalizePassword, refuseCommonPassword } from "#services/identity/password-rules.ts";
import { parsePassword, provePassword } from "#services/identity/prove-password.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { revokeSessionsOf } from "#services/identity/revoke-sessions.ts";
import { selfOf } from "#services/identity/self.ts";
import { laneOf } from "#services/identity/take-attempt.ts";
import { tellOfEndedSessions, tellOfUser } from "#services/identity/tell.ts";

const METHOD = "change_password";

export async function changePassword(ctx: Context, request: ChangePasswordRequest, call: Call): Promise<User> {
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const self = selfOf(call);
  const check = new FieldCheck();
  const current = parsePassword(check, "current_password", request.currentPassword);
  const next = normalizePassword(request.newPassword);
  checkPasswordLength(check, "new_password", next);
  check.done();
  const command = { self, method: METHOD, key, fingerprint: ctx.keys.fingerprint([METHOD, current, next]) };
  // Before the password is looked at: of a repeated call it is not the current one any more.
  if (await wasDone(ctx, command)) {
    call.markReplayed();
    return readUser(ctx, self);
  }

  const user = await provePassword(ctx, call, self, current);
  refuseCommonPassword("new_password", next, user.email);
  const passwordHash = await ctx.passwords.hash(next, laneOf(call));
  const changed = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    if (!(await claimKey(db, command))) return false;
    const { rowCount } = await db.query(
      `update identity.users set password_hash = $3, password_changed_at = now(), version = version + 1, updated_at = now()
        where user_id = $1 and status = 'ACTIVE' and password_hash = $2`,
      [self.userUuid, user.password_hash, passwordHash],
    );
    // Somebody else has changed it meanwhile.
    if (rowCount === 0) throw refusals.passwordWrong();
    const ended = await revokeSessionsOf(db, "PASSWORD_CHANGED", self.userUuid, self.sessionUuid);
    // Whoever knew the former password may have asked for one. The user's row is locked, so none is asked for with it from here on.
    await cancelWaitingChanges(db, self.userUuid);
    await db.query("delete from identity.login_challenges where user_id = $1", [self.userUuid]);
    await queueEmail(ctx, db, self, emails.passwordChanged(user.email));
    await tellOfUser(db, self.userUuid, { type: "user_updated", changedFields: ["password"] });
    await tellOfEndedSessions(db, ended);
    return true;
  });
  if (changed) ctx.emailWake.notify();
  else call.markReplayed();
  return readUser(ctx, self);
}
