import { call } from "#lib/grpc-client.ts";
import {
  CreateSessionRequest,
  CreateUserRequest,
  type SessionTokens,
  type User,
} from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newKey } from "#tests/stack.ts";

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
