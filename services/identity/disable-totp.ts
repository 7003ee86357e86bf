import type { Call } from "#lib/grpc-server.ts";
import type { DisableTotpRequest, DisableTotpResponse } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";
import { addUserEvent, parseFactor, requireAccepted, useFactor } from "#services/identity/totp.ts";

export async function disableTotp(ctx: Context, request: DisableTotpRequest, call: Call): Promise<DisableTotpResponse> {
  const self = selfOf(call);
  const factor = parseFactor(request);

  const outcome = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    // Locked: a grant of the role comes first, or finds no second factor. Their tokens may name a former role.
    const { rows } = await db.query<{ role: string }>("select role from identity.users where user_id = $1 for share", [
      self.userUuid,
    ]);
    if (rows[0]?.role === "OPERATOR") throw refusals.operatorNeedsSecondFactor("have the role withdrawn first.");
    const shown = await useFactor(ctx, db, self, "ACTIVE", factor);
    if (shown.kind !== "accepted") return shown;
    await db.query("delete from identity.recovery_codes where user_id = $1", [self.userUuid]);
    await db.query("delete from identity.totp where user_id = $1 and state = 'ACTIVE'", [self.userUuid]);
    await addUserEvent(db, self, "totp_disabled", { userId: self.userId });
    return shown;
  });
  requireAccepted(outcome);
  return {};
}
