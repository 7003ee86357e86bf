import type { PoolClient } from "pg";
import { idToUuid } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import { freeAddress, releaseLater } from "#services/identity/directory-release.ts";
import { bucketOfEmailKey } from "#services/identity/email-address.ts";
import { writeEmailToken } from "#services/identity/email-token.ts";
import { emails, queueEmail } from "#services/identity/outgoing-email.ts";
import { tellOfUser } from "#services/identity/tell.ts";

/**
 * A change of e-mail touches two shards: the user's, where the change has its row, and the one of the new address, where the
 * directory has its. Each step is one commit on one shard, and the row says which one is next:
 *
 *   REQUESTED  the wish is written. Next: reserve the new address in the directory
 *                -> PENDING when it was free, with the message that carries the token
 *                -> CANCELED when it is somebody's
 *   PENDING    the token is on its way.
 *                -> CONFIRMED when it comes back in time
 *                -> CANCELED when its time is over, another change is asked for, the password is changed, or the user is closed
 *   CONFIRMED  it is going to happen. Next: the reservation becomes the user's row of the directory (both addresses lead to the user
 *              for a moment); then, in one commit, the user switches, the row goes, and the former address is to be released
 *                -> gone
 *                -> CANCELED when the reservation was lost: it had expired long ago, and somebody else has the address
 *   CANCELED   Next: the reservation is deleted, then the row
 *                -> gone
 *
 * Every step may be done twice, and a worker (finish-email-changes.ts) takes the next one when nobody else does. A reservation that
 * is made by a step that came too late belongs to no change, and expires.
 */
export interface EmailChange {
  readonly change_id: string;
  readonly user_id: string;
  readonly bucket: number;
  readonly state: "REQUESTED" | "PENDING" | "CONFIRMED" | "CANCELED";
  readonly new_email: string;
  readonly new_email_key: Buffer;
}

const COLUMNS = "change_id, user_id, bucket, state, new_email, new_email_key";

/** How long the token is good. */
const TOKEN_HOURS = 24;
/** A confirmed change may take so long at most to become the user's. */
const RESERVATION_HOURS = TOKEN_HOURS + 24;

/** Takes the steps that are due, up to where the change waits or is gone. Answers the state it waits in. */
export async function advanceEmailChange(
  ctx: Context,
  change: EmailChange,
): Promise<"PENDING" | "DONE" | "ADDRESS_USED" | "CANCELED"> {
  switch (change.state) {
    case "REQUESTED":
      if (await reserve(ctx, change)) return (await sendToken(ctx, change)) ? "PENDING" : "CANCELED";
      await cancel(ctx, change);
      await release(ctx, change);
      return "ADDRESS_USED";
    case "PENDING":
      return "PENDING";
    case "CONFIRMED":
      if (!(await takeAddress(ctx, change))) {
        await cancel(ctx, change);
        await release(ctx, change);
        return "ADDRESS_USED";
      }
      await switchUser(ctx, change);
      return "DONE";
    case "CANCELED":
      await release(ctx, change);
      return "CANCELED";
  }
}

/** Writes the wish, in place of one that waits. The caller has locked the user's row. Undefined: one is being carried out. */
export async function requestEmailChange(
  ctx: Context,
  db: PoolClient,
  user: { readonly userUuid: string; readonly bucket: number },
  newEmail: string,
  newEmailKey: Buffer,
): Promise<EmailChange | undefined> {
  await cancelWaitingChanges(db, user.userUuid);
  const { rows } = await db.query<EmailChange>(
    `insert into identity.email_changes (change_id, bucket, user_id, state, new_email, new_email_key, expires_at)
     values ($1, $2, $3, 'REQUESTED', $4, $5, now() + make_interval(hours => $6)) on conflict do nothing returning ${COLUMNS}`,
    [idToUuid(ctx.newId("emch", user.bucket)), user.bucket, user.userUuid, newEmail, newEmailKey, TOKEN_HOURS],
  );
  return rows[0];
}

/** Those that can still be given up. */
export async function cancelWaitingChanges(db: PoolClient, userUuid: string): Promise<void> {
  await db.query(
    `update identity.email_changes set state = 'CANCELED', updated_at = now()
      where user_id = $1 and state in ('REQUESTED', 'PENDING')`,
    [userUuid],
  );
}

/** The change of a user that is confirmed and not done, if there is one. */
export async function confirmedChangeOf(
  ctx: Context,
  user: { readonly userUuid: string; readonly bucket: number },
): Promise<EmailChange | undefined> {
  const [change] = await ctx
    .shardOfBucket(user.bucket)
    .read<EmailChange>(`select ${COLUMNS} from identity.email_changes where user_id = $1 and state = 'CONFIRMED'`, [
      user.userUuid,
    ]);
  return change;
}

/** PENDING -> CONFIRMED, in time. CONFIRMED stays so. Undefined: it is neither. */
export async function confirmEmailChange(db: PoolClient, changeUuid: string): Promise<EmailChange | undefined> {
  const { rows } = await db.query<EmailChange>(
    `update identity.email_changes set state = 'CONFIRMED', updated_at = now()
      where change_id = $1 and (state = 'CONFIRMED' or state = 'PENDING' and expires_at > clock_timestamp())
     returning ${COLUMNS}`,
    [changeUuid],
  );
  return rows[0];
}

/** Changes on a shard whose next step nobody has taken for a while, and those whose time is over, which are canceled here. */
export async function takeStalledChanges(
  db: PoolClient,
  stalledSeconds: number,
  limit: number,
): Promise<EmailChange[]> {
  await db.query(
    `update identity.email_changes set state = 'CANCELED', updated_at = now()
      where change_id in (select change_id from identity.email_changes where state = 'PENDING' and expires_at <= now()
                           limit $1 for update skip locked)`,
    [limit],
  );
  // Put off for the others meanwhile.
  const { rows } = await db.query<EmailChange>(
    `update identity.email_changes set updated_at = now()
      where change_id in (select change_id from identity.email_changes
                           where state in ('REQUESTED', 'CONFIRMED', 'CANCELED')
                             and updated_at <= now() - make_interval(secs => $1)
                           order by updated_at, change_id limit $2 for update skip locked)
     returning ${COLUMNS}`,
    [stalledSeconds, limit],
  );
  return rows;
}

/** On the shard of the new address: whether it is reserved for this change now. */
async function reserve(ctx: Context, change: EmailChange): Promise<boolean> {
  const bucket = bucketOfEmailKey(change.new_email_key);
  return ctx.shardOfBucket(bucket).transact(async (db) => {
    await db.query(
      `delete from identity.login_directory
        where email_key = $1 and state = 'RESERVED' and expires_at <= clock_timestamp() and change_id <> $2`,
      [change.new_email_key, change.change_id],
    );
    const { rowCount } = await db.query(
      `insert into identity.login_directory as d (email_key, bucket, user_id, state, change_id, expires_at)
       values ($1, $2, $3, 'RESERVED', $4, now() + make_interval(hours => $5))
       on conflict (email_key) do update set expires_at = excluded.expires_at
             where d.state = 'RESERVED' and d.change_id = excluded.change_id`,
      [change.new_email_key, bucket, change.user_id, change.change_id, RESERVATION_HOURS],
    );
    return rowCount === 1;
  });
}

/** On the user's shard: REQUESTED -> PENDING. False: it was canceled meanwhile. */
async function sendToken(ctx: Context, change: EmailChange): Promise<boolean> {
  const self = { userUuid: change.user_id, bucket: change.bucket };
  const isPending = await ctx.shardOfBucket(change.bucket).transact(async (db) => {
    const { rowCount } = await db.query(
      `update identity.email_changes set state = 'PENDING', updated_at = now()
        where change_id = $1 and state = 'REQUESTED'`,
      [change.change_id],
    );
    if (rowCount === 0) return false;
    const token = writeEmailToken(ctx.keys, change.change_id);
    await queueEmail(ctx, db, self, emails.confirmAddress(change.new_email, token));
    const { rows } = await db.query<{ email: string }>(
      "select email from identity.users where user_id = $1 and status = 'ACTIVE'",
      [change.user_id],
    );
    for (const { email } of rows) await queueEmail(ctx, db, self, emails.addressChangeAsked(email));
    return true;
  });
  if (isPending) ctx.emailWake.notify();
  return isPending;
}

/** On the shard of the new address: the reservation becomes the user's. */
async function takeAddress(ctx: Context, change: EmailChange): Promise<boolean> {
  return ctx.shardOfBucket(bucketOfEmailKey(change.new_email_key)).transact(async (db) => {
    const { rowCount } = await db.query(
      `update identity.login_directory set state = 'ACTIVE', expires_at = null
        where email_key = $1 and change_id = $2 and user_id = $3`,
      [change.new_email_key, change.change_id, change.user_id],
    );
    return rowCount === 1;
  });
}

/** On the user's shard: the user has the new address, and the former one is to be released. */
async function switchUser(ctx: Context, change: EmailChange): Promise<void> {
  const self = { userUuid: change.user_id, bucket: change.bucket };
  const former = await ctx.shardOfBucket(change.bucket).transact(async (db) => {
    const { rows } = await db.query<{ email: string; email_key: Buffer; directory_change_id: string | null }>(
      `select email, email_key, directory_change_id from identity.users
        where user_id = $1 and status = 'ACTIVE' for update`,
      [change.user_id],
    );
    const { rowCount } = await db.query(
      "delete from identity.email_changes where change_id = $1 and state = 'CONFIRMED'",
      [change.change_id],
    );
    const [user] = rows;
    // Another process was quicker.
    if (rowCount === 0 || user === undefined) return undefined;
    await db.query(
      `update identity.users set email = $2, email_key = $3, directory_change_id = $4, version = version + 1, updated_at = now()
        where user_id = $1`,
      [change.user_id, change.new_email, change.new_email_key, change.change_id],
    );
    await queueEmail(ctx, db, self, emails.addressChanged(user.email));
    const later = await releaseLater(ctx, db, self, { emailKey: user.email_key, changeUuid: user.directory_change_id });
    await tellOfUser(db, change.user_id, { type: "user_updated", changedFields: ["email"] });
    return later;
  });
  if (former === undefined) return;
  ctx.emailWake.notify();
  await freeAddress(ctx, former);
}

/** On the user's shard. */
async function cancel(ctx: Context, change: EmailChange): Promise<void> {
  await ctx.shardOfBucket(change.bucket).transact((db) =>
    db.query(
      `update identity.email_changes set state = 'CANCELED', updated_at = now()
        where change_id = $1 and state = $2`,
      [change.change_id, change.state],
    ),
  );
}

/** On the shard of the new address, then on the user's: nothing is left of a change that was canceled. */
async function release(ctx: Context, change: EmailChange): Promise<void> {
  await ctx
    .shardOfBucket(bucketOfEmailKey(change.new_email_key))
    .transact((db) =>
      db.query("delete from identity.login_directory where email_key = $1 and change_id = $2 and state = 'RESERVED'", [
        change.new_email_key,
        change.change_id,
      ]),
    );
  await ctx
    .shardOfBucket(change.bucket)
    .transact((db) =>
      db.query("delete from identity.email_changes where change_id = $1 and state = 'CANCELED'", [change.change_id]),
    );
}
