import type { Call } from "#lib/grpc-server.ts";
import type { ConfirmTotpRequest, RecoveryCodes } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";
import { addUserEvent, makeRecoveryCodes, parseFactor, requireAccepted, useFactor } from "#services/identity/totp.ts";

export async function confirmTotp(ctx: Context, request: ConfirmTotpRequest, call: Call): Promise<RecoveryCodes> {
  const self = selfOf(call);
  const factor = parseFactor({ totpCode: request.totpCode, recoveryCode: "" });

  const { outcome, recoveryCodes } = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const shown = await useFactor(ctx, db, self, "PENDING", factor);
    if (shown.kind !== "accepted") return { outcome: shown, recoveryCodes: [] };
    const codes = await makeRecoveryCodes(ctx, db, self);
    await db.query(
      "update identity.totp set state = 'ACTIVE', confirmed_at = now() where user_id = $1 and state = 'PENDING'",
      [self.userUuid],
    );
    await addUserEvent(db, self, "totp_enabled", { userId: self.userId });
    return { outcome: shown, recoveryCodes: codes };
  });
  if (outcome.kind === "none" && (await isEnabled(ctx, self))) throw refusals.totpAlreadyEnabled();
  requireAccepted(outcome);
  return { recoveryCodes };
}

async function isEnabled(ctx: Context, { userUuid, bucket }: ReturnType<typeof selfOf>): Promise<boolean> {
  const rows = await ctx
    .shardOfBucket(bucket)
    .read("select from identity.totp where user_id = $1 and state = 'ACTIVE'", [userUuid]);
  return rows.length > 0;
}
