import { renderSVG } from "uqr";
import { FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import type { EnrolTotpRequest, TotpEnrolment } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { parsePassword, provePassword } from "#services/identity/prove-password.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";
import { CONFIRM_MINUTES, newSecret } from "#services/identity/totp.ts";

export async function enrolTotp(ctx: Context, request: EnrolTotpRequest, call: Call): Promise<TotpEnrolment> {
  const self = selfOf(call);
  const check = new FieldCheck();
  const password = parsePassword(check, "password", request.password);
  check.done();
  const { email, password_hash: passwordHash } = await provePassword(ctx, call, self, password);

  const { sealed, base32, uri } = newSecret(ctx, self, email);
  const expireTime = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rows } = await db.query<{ expire_time: Date }>(
      `insert into identity.totp as t (user_id, bucket, state, secret_sealed)
       select user_id, bucket, 'PENDING', $2 from identity.users
        where user_id = $1 and status = 'ACTIVE' and password_hash = $4 for share
       on conflict (user_id) do update
          set secret_sealed = excluded.secret_sealed, last_step = 0, failed_attempts = 0, locked_until = null,
              version = t.version + 1, created_at = now()
        where t.state = 'PENDING'
       returning created_at + make_interval(mins => $3) as expire_time`,
      [self.userUuid, sealed, CONFIRM_MINUTES, passwordHash],
    );
    return rows[0]?.expire_time;
  });
  if (expireTime === undefined) throw refusals.totpAlreadyEnabled();
  return { otpauthUri: uri, secret: base32, qrSvg: renderSVG(uri), expireTime };
}
