import type { Call } from "#lib/grpc-server.ts";
import { type GetUserRequest, type User, User_Status } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { readUser } from "#services/identity/read-user.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";

export async function getUser(ctx: Context, _request: GetUserRequest, call: Call): Promise<User> {
  const user = await readUser(ctx, selfOf(call));
  // A token may outlive its user by a moment.
  if (user.status !== User_Status.ACTIVE) throw refusals.userNotFound();
  return user;
}
