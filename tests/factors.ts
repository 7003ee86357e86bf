import { Secret, TOTP } from "otpauth";
import { call } from "#lib/grpc-client.ts";
import {
  CreateSessionRequest,
  type SessionTokens,
  type TotpEnrolment,
  type User,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { eventually, identity } from "#tests/stack.ts";
import { bearer, PASSWORD, signIn, signUp } from "#tests/users.ts";

/** Second factors of people for tests. */

const PERIOD_MS = 30_000;
/** A test that uses a code and the next one is through by then. */
const ROOM_MS = 12_000;

/** The code of the present step, or of one before or after it. */
export function codeOf(secret: string, steps = 0): string {
  return new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * PERIOD_MS });
}

/** A code that is right for no step near the present one. */
export function wrongCode(secret: string): string {
  const right = new Set([-2, -1, 0, 1, 2].map((steps) => codeOf(secret, steps)));
  return ["000000", "111111", "222222", "333333", "444444", "555555"].find((code) => !right.has(code)) as string;
}

/** Resolves in the first part of a step, so that codes of the steps around it stay what they are for a while. */
export function earlyInStep(): Promise<void> {
  return eventually(() => Date.now() % PERIOD_MS < PERIOD_MS - ROOM_MS, "a new step begins", PERIOD_MS);
}

/** Begins to enrol. */
export async function enrol(tokens: SessionTokens, password = PASSWORD): Promise<TotpEnrolment> {
  return (await call(identity, identity.enrolTotp, { password }, bearer(tokens))).response;
}

export interface Enrolled {
  readonly user: User;
  /** Of a session that was opened before. */
  readonly tokens: SessionTokens;
  readonly secret: string;
  readonly recoveryCodes: readonly string[];
}

/** A new person with a second factor; the code of the step before is used up by it, the present and the next one are left. */
export async function signUpWithFactor(): Promise<Enrolled> {
  const user = await signUp();
  const tokens = await signIn(user);
  const { secret } = await enrol(tokens);
  await earlyInStep();
  const { response } = await call(identity, identity.confirmTotp, { totpCode: codeOf(secret, -1) }, bearer(tokens));
  return { user, tokens, secret, recoveryCodes: response.recoveryCodes };
}

/** Shows the password. Answers the challenge for the second factor. */
export async function challengeOf(user: Pick<User, "email">, headers: Record<string, string> = {}): Promise<string> {
  const request = CreateSessionRequest.fromPartial({ email: user.email, password: PASSWORD });
  const error = await call(identity, identity.createSession, request, headers).then(
    () => undefined,
    (reason: { reason: string; metadata: Record<string, string> }) => reason,
  );
  if (error?.reason !== "SECOND_FACTOR_REQUIRED") throw new Error(`no second factor was asked for: ${String(error)}`);
  return error.metadata.challenge_id as string;
}

/** Answers a challenge. */
export async function answer(
  challengeId: string,
  factor: { readonly totpCode?: string; readonly recoveryCode?: string },
): Promise<SessionTokens> {
  const request = CreateSessionRequest.fromPartial({ challengeId, ...factor });
  return (await call(identity, identity.createSession, request)).response;
}
