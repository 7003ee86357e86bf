import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import type { UpdateUserRequest, User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { claimKey } from "#services/identity/claim-key.ts";
import type { Context } from "#services/identity/context.ts";
import { checkCountry, checkName, checkPhone, checkSettings } from "#services/identity/parse-user.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";
import { tellOfUser } from "#services/identity/tell.ts";

const METHOD = "update_user";

export async function updateUser(ctx: Context, request: UpdateUserRequest, call: Call): Promise<User> {
  const key = idempotencyKeyOf(call, request.idempotencyKey);
  const self = selfOf(call);
  const { name, phone, country, settings } = parse(request);
  const fingerprint = ctx.keys.fingerprint([METHOD, name, phone, country, settings]);
  const changed = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    if (!(await claimKey(db, { self, method: METHOD, key, fingerprint }))) return false;
    const { rowCount } = await db.query(
      `update identity.users set name = coalesce($2, name), phone = coalesce($3, phone), country = coalesce($4, country),
              settings = coalesce($5, settings), version = version + 1, updated_at = now()
        where user_id = $1 and status = 'ACTIVE'`,
      [self.userUuid, name, phone, country, settings === undefined ? undefined : JSON.stringify(settings)],
    );
    if (rowCount === 0) throw refusals.userNotFound();
    const given = Object.entries({ name, phone, country, settings }).filter(([, value]) => value !== undefined);
    await tellOfUser(db, self.userUuid, { type: "user_updated", changedFields: given.map(([field]) => field) });
    return true;
  });
  if (!changed) call.markReplayed();
  return readUser(ctx, self);
}

/** Throws INVALID_ARGUMENT with every malformed field. */
function parse(request: UpdateUserRequest) {
  const check = new FieldCheck();
  const { name, phone, country } = request;
  if (name !== undefined) checkName(check, "name", name);
  if (phone !== undefined) checkPhone(check, "phone", phone);
  if (country !== undefined) checkCountry(check, "country", country);
  const settings = request.settings && checkSettings(check, "settings", request.settings);
  const isSomething = [name, phone, country, settings].some((value) => value !== undefined);
  check.require(isSomething, "name", "or another field must be given: there is nothing to change");
  check.done();
  return { name, phone, country, settings };
}
