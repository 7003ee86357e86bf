import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import type { CloseUserRequest, User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { claimKey, wasDone } from "#services/identity/claim-key.ts";
import type { Context } from "#services/identity/context.ts";
import { freeAddress, releaseLater } from "#services/identity/directory-release.ts";
import { advanceEmailChange, cancelWaitingChanges, confirmedChangeOf } from "#services/identity/email-change.ts";
import { eraseUser } from "#services/identity/erase-user.ts";
import { closeAccounts } from "#services/identity/ledger-accounts.ts";
import { emails, queueEmail } from "#services/identity/outgoing-email.ts";
import { parsePassword, provePassword } from "#services/identity/prove-password.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { revokeSessionsOf } from "#services/identity/revoke-sessions.ts";
import { selfOf } from "#services/identity/self.ts";
import { tellOfEndedSessions, tellOfUser } from "#services/identity/tell.ts";

const METHOD = "close_user";

/**
 * First the accounts, so that no money can come any more, then the user, in one commit. Whoever dies in between leaves a user with
 * closed accounts, who can repeat the call.
 */
export async function closeUser(ctx: Context, request: CloseUserRequest, call: Call): Promise<User> {
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const self = selfOf(call);
  const check = new FieldCheck();
  const password = parsePassword(check, "password", request.password);
  check.done();
  const command = { self, method: METHOD, key, fingerprint: ctx.keys.fingerprint([METHOD, password]) };
  if (await wasDone(ctx, command)) {
    call.markReplayed();
    return readUser(ctx, self);
  }

  const proved = await provePassword(ctx, call, self, password);
  const change = await confirmedChangeOf(ctx, self);
  if (change !== undefined) await advanceEmailChange(ctx, change);
  await closeAccounts(ctx, call, self.userId);
  const release = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rows } = await db.query<{ email: string; email_key: Buffer; directory_change_id: string | null }>(
      `select email, email_key, directory_change_id from identity.users
        where user_id = $1 and status = 'ACTIVE' and password_hash = $2 for update`,
      [self.userUuid, proved.password_hash],
    );
    const [user] = rows;
    if (!(await claimKey(db, command))) return undefined;
    if (user === undefined) throw refusals.passwordWrong();
    await cancelWaitingChanges(db, self.userUuid);
    const { rowCount } = await db.query(
      "select from identity.email_changes where user_id = $1 and state = 'CONFIRMED' for update",
      [self.userUuid],
    );
    if (rowCount !== 0) throw refusals.emailChangeUnderWay();
    const ended = await revokeSessionsOf(db, "USER_CLOSED", self.userUuid);
    await eraseUser(db, self.userUuid);
    // The last one: its row goes when it was sent.
    await queueEmail(ctx, db, self, emails.closed(user.email));
    const later = await releaseLater(ctx, db, self, { emailKey: user.email_key, changeUuid: user.directory_change_id });
    await tellOfUser(db, self.userUuid, { type: "user_closed" });
    await tellOfEndedSessions(db, ended);
    return later;
  });
  if (release === undefined) call.markReplayed();
  else {
    ctx.emailWake.notify();
    await freeAddress(ctx, release);
  }
  return readUser(ctx, self);
}
