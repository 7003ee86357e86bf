import { SignJWT } from "jose";
import { TOKEN_AUDIENCE, TOKEN_LIFETIME_SECONDS } from "#lib/access-token.ts";
import type { SessionTokens } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { type RefreshToken, writeRefreshToken } from "#services/identity/refresh-token.ts";

export interface Session {
  /** `sess_…` */
  readonly sessionId: string;
  /** `user_…` */
  readonly userId: string;
  readonly role: "USER" | "MERCHANT" | "OPERATOR";
  readonly secondFactor: boolean;
  readonly expiresAt: Date;
}

/** The tokens of a session, with a fresh access token. Throws SIGNING_KEYS_UNAVAILABLE. */
export async function sessionTokens(
  ctx: Context,
  session: Session,
  refreshToken: RefreshToken,
): Promise<SessionTokens> {
  return {
    sessionId: session.sessionId,
    userId: session.userId,
    accessToken: await accessToken(ctx, session),
    refreshToken: writeRefreshToken(ctx.keys, refreshToken),
    expiresInSeconds: TOKEN_LIFETIME_SECONDS,
    sessionExpireTime: session.expiresAt,
  };
}

/** lib/access-token.ts says what is in it, and verifies it. */
function accessToken(ctx: Context, { sessionId, userId, role, secondFactor }: Session): Promise<string> {
  const { keyId, privateKey } = ctx.signingKeys.active();
  const nowSeconds = Math.floor(ctx.nowMs() / 1000);
  return new SignJWT({ role, sid: sessionId, amr: secondFactor ? ["pwd", "otp"] : ["pwd"] })
    .setProtectedHeader({ alg: "EdDSA", kid: keyId, typ: "JWT" })
    .setIssuer(ctx.tokenIssuer)
    .setAudience(TOKEN_AUDIENCE)
    .setSubject(userId)
    .setIssuedAt(nowSeconds)
    .setNotBefore(nowSeconds)
    .setExpirationTime(nowSeconds + TOKEN_LIFETIME_SECONDS)
    .sign(privateKey);
}
