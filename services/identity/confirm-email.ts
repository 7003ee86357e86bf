import type { ConfirmEmailRequest, ConfirmEmailResponse } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { advanceEmailChange, confirmEmailChange } from "#services/identity/email-change.ts";
import { readEmailToken } from "#services/identity/email-token.ts";
import { refusals } from "#services/identity/refusals.ts";

export async function confirmEmail(ctx: Context, request: ConfirmEmailRequest): Promise<ConfirmEmailResponse> {
  const token = readEmailToken(ctx.keys, request.token);
  if (token === undefined) throw refusals.emailTokenInvalid();
  const shard = ctx.shardOfBucket(token.bucket);
  const change = await shard.transact((db) => confirmEmailChange(db, token.changeUuid));
  if (change !== undefined) {
    if ((await advanceEmailChange(ctx, change)) === "ADDRESS_USED") throw refusals.emailAlreadyUsed();
    return { email: change.new_email };
  }
  // The answer to an earlier call was lost: it is done.
  const [user] = await shard.read<{ email: string }>(
    "select email from identity.users where directory_change_id = $1 and status = 'ACTIVE'",
    [token.changeUuid],
  );
  if (user === undefined) throw refusals.emailTokenInvalid();
  return { email: user.email };
}
