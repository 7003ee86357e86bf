import { CreateUserRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import { newKey } from "#tests/stack.ts";

/** People for tests. */

/** An e-mail address that nobody has, in its normal form. */
export function newEmail(): string {
  return `${newKey()}@example.com`;
}

/** The sign-up of a new person; every field as it must be, unless said otherwise. */
export function signUpRequest(request: Partial<CreateUserRequest> = {}): CreateUserRequest {
  return CreateUserRequest.fromPartial({
    email: newEmail(),
    password: "a sound password",
    name: "Ada",
    country: "CZ",
    idempotencyKey: newKey(),
    ...request,
  });
}
