import type { CreateSessionRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import type { SigningInUser } from "#services/identity/create-session.ts";
import type { Client } from "#services/identity/note-login.ts";
import { refusals } from "#services/identity/refusals.ts";

/** The second factor within a sign-in. */

/** Whose password was right: the id of a new challenge when they have a second factor, otherwise undefined. */
export function challengeIfEnrolled(_ctx: Context, _userUuid: string): Promise<string | undefined> {
  return Promise.resolve(undefined);
}

/** The user whose challenge the code answers. Throws CHALLENGE_INVALID. */
export function answerChallenge(
  _ctx: Context,
  _request: CreateSessionRequest,
  _client: Client,
): Promise<SigningInUser> {
  return Promise.reject(refusals.challengeInvalid());
}
