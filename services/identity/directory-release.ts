import type { PoolClient } from "pg";
import { idToUuid } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import { bucketOfEmailKey } from "#services/identity/email-address.ts";
import type { Shard } from "#services/identity/shard.ts";

/**
 * Freeing an address that a user has given up. The directory row may be on another shard than the user: the commit that makes it
 * useless writes a release, and the row is deleted afterwards, then the release. A release names the row exactly.
 */
export interface Release {
  readonly release_id: string;
  readonly bucket: number;
  readonly user_id: string;
  readonly email_key: Buffer;
  readonly change_id: string | null;
}

const COLUMNS = "release_id, bucket, user_id, email_key, change_id";

/** Notes, in the commit, that a row of the directory is to go. Call freeAddress after it. */
export async function releaseLater(
  ctx: Context,
  db: PoolClient,
  { userUuid, bucket }: { readonly userUuid: string; readonly bucket: number },
  { emailKey, changeUuid }: { readonly emailKey: Buffer; readonly changeUuid: string | null },
): Promise<Release> {
  const { rows } = await db.query<Release>(
    `insert into identity.directory_releases (release_id, bucket, user_id, email_key, change_id)
     values ($1, $2, $3, $4, $5) returning ${COLUMNS}`,
    [idToUuid(ctx.newId("emch", bucket)), bucket, userUuid, emailKey, changeUuid],
  );
  return rows[0] as Release;
}

/** Deletes the row of the directory, then the release. May be done twice. */
export async function freeAddress(ctx: Context, release: Release): Promise<void> {
  await ctx
    .shardOfBucket(bucketOfEmailKey(release.email_key))
    .transact((db) =>
      db.query(
        "delete from identity.login_directory where email_key = $1 and user_id = $2 and change_id is not distinct from $3",
        [release.email_key, release.user_id, release.change_id],
      ),
    );
  await ctx
    .shardOfBucket(release.bucket)
    .transact((db) => db.query("delete from identity.directory_releases where release_id = $1", [release.release_id]));
}

/** Releases on a shard that nobody has carried out for a while. */
export function stalledReleases(shard: Shard, stalledSeconds: number, limit: number): Promise<Release[]> {
  return shard.read<Release>(
    `select ${COLUMNS} from identity.directory_releases where created_at <= now() - make_interval(secs => $1)
      order by created_at, release_id limit $2`,
    [stalledSeconds, limit],
  );
}
