import type { GetJwksRequest, Jwks } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";

export function getJwks(ctx: Context, _request: GetJwksRequest): Promise<Jwks> {
  return Promise.resolve({ keys: [...ctx.signingKeys.published()] });
}
