import type { User } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Self } from "#services/identity/self.ts";
import { toUser, USER_COLUMNS, type UserRow } from "#services/identity/user.ts";

/** A user as they are now, closed or not. Throws USER_NOT_FOUND, SHARD_UNAVAILABLE. */
export async function readUser(ctx: Context, { userUuid, bucket }: Pick<Self, "userUuid" | "bucket">): Promise<User> {
  const [row] = await ctx
    .shardOfBucket(bucket)
    .read<UserRow>(`select ${USER_COLUMNS} from identity.users u where u.user_id = $1`, [userUuid]);
  if (row === undefined) throw refusals.userNotFound();
  return toUser(row);
}
