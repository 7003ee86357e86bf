import { accessRefusals } from "#lib/access-refusals.ts";
import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { bucketOfUuid } from "#lib/ids.ts";
import { type GrantRoleRequest, type User, User_Role } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { bucketOfEmailKey, normalizeEmail } from "#services/identity/email-address.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { revokeSessionsOf } from "#services/identity/revoke-sessions.ts";
import { tellOfEndedSessions, tellOfUser } from "#services/identity/tell.ts";

/** The process of who sits at the machine. Other services may call identity, and none of them makes operators. */
const CONSOLE = "console";
const ROLES = new Map<number, "USER" | "MERCHANT" | "OPERATOR">([
  [User_Role.USER, "USER"],
  [User_Role.MERCHANT, "MERCHANT"],
  [User_Role.OPERATOR, "OPERATOR"],
]);

export async function grantRole(ctx: Context, request: GrantRoleRequest, call: Call): Promise<User> {
  const { principal } = call;
  if (call.peer !== CONSOLE || principal.role !== "SERVICE" || principal.name !== CONSOLE) {
    throw accessRefusals.peerNotAllowed("GrantRole", call.peer);
  }
  const check = new FieldCheck();
  const email = normalizeEmail(request.email) ?? "";
  check.require(email !== "", "email", "must be an e-mail address, such as ada@example.com");
  const role = ROLES.get(request.role);
  check.require(role !== undefined, "role", "must be USER, MERCHANT or OPERATOR");
  check.done();

  const emailKey = ctx.keys.emailKey(email);
  const [row] = await ctx
    .shardOfBucket(bucketOfEmailKey(emailKey))
    .read<{ user_id: string }>(
      "select user_id from identity.login_directory where email_key = $1 and state = 'ACTIVE'",
      [emailKey],
    );
  if (row === undefined) throw refusals.userNotFound();
  const self = { userUuid: row.user_id, bucket: bucketOfUuid(row.user_id) };
  await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rows } = await db.query<{ role: string }>(
      "select role from identity.users where user_id = $1 and status = 'ACTIVE' for update",
      [self.userUuid],
    );
    const [user] = rows;
    if (user === undefined) throw refusals.userNotFound();
    if (user.role === role) return;
    if (role === "OPERATOR") {
      const { rowCount } = await db.query("select from identity.totp where user_id = $1 and state = 'ACTIVE'", [
        self.userUuid,
      ]);
      if (rowCount === 0) throw refusals.operatorNeedsSecondFactor("the user turns one on before they become one.");
    }
    await db.query(
      "update identity.users set role = $2, version = version + 1, updated_at = now() where user_id = $1",
      [self.userUuid, role],
    );
    // Their tokens name the former role.
    const ended = await revokeSessionsOf(db, "ROLE_CHANGED", self.userUuid);
    await tellOfUser(db, self.userUuid, { type: "user_updated", changedFields: ["role"] });
    await tellOfEndedSessions(db, ended);
  });
  return readUser(ctx, self);
}
