import { Defect } from "#lib/refusal.ts";
import type { User } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { toUser, USER_COLUMNS, type UserRow } from "#services/identity/user.ts";

/** A user that is known to be there. Throws SHARD_UNAVAILABLE. */
export async function readUser(ctx: Context, userUuid: string, bucket: number): Promise<User> {
  const [row] = await ctx
    .shardOfBucket(bucket)
    .read<UserRow>(`select ${USER_COLUMNS} from identity.users u where u.user_id = $1`, [userUuid]);
  if (row === undefined) throw new Defect(`the user ${userUuid} is not there`);
  return toUser(row);
}
