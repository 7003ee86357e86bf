import { call } from "#lib/grpc-client.ts";
import {
  CreateSessionRequest,
  CreateUserRequest,
  type SessionTokens,
  type User,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { eventually, identity, newKey, stack } from "#tests/stack.ts";

/** People for tests. */

export const PASSWORD = "a sound password";

/** An e-mail address that nobody has, in its normal form. */
export function newEmail(): string {
  return `${newKey()}@example.com`;
}

/** The sign-up of a new person; every field as it must be, unless said otherwise. */
export function signUpRequest(request: Partial<CreateUserRequest> = {}): CreateUserRequest {
  return CreateUserRequest.fromPartial({
    email: newEmail(),
    password: PASSWORD,
    name: "Ada",
    country: "CZ",
    idempotencyKey: newKey(),
    ...request,
  });
}

/** Signs a new person up. */
export async function signUp(request: Partial<CreateUserRequest> = {}): Promise<User> {
  return (await call(identity, identity.createUser, signUpRequest(request))).response;
}

/** Signs somebody in. */
export async function signIn({ email }: { readonly email: string }, password = PASSWORD): Promise<SessionTokens> {
  const request = CreateSessionRequest.fromPartial({ email, password });
  return (await call(identity, identity.createSession, request)).response;
}

/** The header of a person's call. */
export function bearer({ accessToken }: Pick<SessionTokens, "accessToken">): { authorization: string } {
  return { authorization: `Bearer ${accessToken}` };
}

/** The e-mails that the stack's mail server has taken for an address, oldest first, each with its headers. */
export async function messagesTo(email: string): Promise<string[]> {
  const answer = await fetch(`${stack.mail}/messages?to=${encodeURIComponent(email)}`);
  return ((await answer.json()) as { text: string }[]).map(({ text }) => text);
}

/** The token in the first, second, … e-mail with one to an address, once it is there. */
export async function emailToken(email: string, number = 1): Promise<string> {
  let token: string | undefined;
  await eventually(async () => {
    const tokens = (await messagesTo(email)).flatMap((text) => /^([\w-]{64})\r?$/m.exec(text)?.[1] ?? []);
    token = tokens[number - 1];
    return token !== undefined;
  }, `token ${number} comes to ${email}`);
  return token as string;
}
