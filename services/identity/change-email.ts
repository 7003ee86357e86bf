import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import type { ChangeEmailRequest, User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { claimKey, forgetKey, wasDone } from "#services/identity/claim-key.ts";
import type { Context } from "#services/identity/context.ts";
import { normalizeEmail } from "#services/identity/email-address.ts";
import { advanceEmailChange, requestEmailChange } from "#services/identity/email-change.ts";
import { parsePassword, provePassword } from "#services/identity/prove-password.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";

const METHOD = "change_email";

export async function changeEmail(ctx: Context, request: ChangeEmailRequest, call: Call): Promise<User> {
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const self = selfOf(call);
  const check = new FieldCheck();
  const newEmail = normalizeEmail(request.newEmail) ?? "";
  check.require(newEmail !== "", "new_email", "must be an e-mail address, such as ada@example.com");
  const password = parsePassword(check, "password", request.password);
  check.done();
  const command = { self, method: METHOD, key, fingerprint: ctx.keys.fingerprint([METHOD, newEmail, password]) };
  if (await wasDone(ctx, command)) {
    call.markReplayed();
    return readUser(ctx, self);
  }

  const user = await provePassword(ctx, call, self, password);
  const newEmailKey = ctx.keys.emailKey(newEmail);
  if (newEmailKey.equals(user.email_key)) throw refusals.emailAlreadyUsed();
  const change = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rowCount } = await db.query(
      "select from identity.users where user_id = $1 and status = 'ACTIVE' and password_hash = $2 for update",
      [self.userUuid, user.password_hash],
    );
    if (rowCount === 0) throw refusals.passwordWrong();
    if (!(await claimKey(db, command))) return "known";
    const requested = await requestEmailChange(ctx, db, self, newEmail, newEmailKey);
    // One is confirmed, and on its way.
    if (requested === undefined) throw refusals.emailChangeUnderWay();
    return requested;
  });
  if (change === "known") {
    call.markReplayed();
    return readUser(ctx, self);
  }
  ctx.changeWake.notify();
  if ((await advanceEmailChange(ctx, change)) === "ADDRESS_USED") {
    await ctx.shardOfBucket(self.bucket).transact((db) => forgetKey(db, command));
    throw refusals.emailAlreadyUsed();
  }
  return readUser(ctx, self);
}
