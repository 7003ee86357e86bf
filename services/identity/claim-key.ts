import type { PoolClient } from "pg";
import { uuidToId } from "#lib/ids.ts";
import type { Context } from "#services/identity/context.ts";
import { refusals } from "#services/identity/refusals.ts";
import type { Self } from "#services/identity/self.ts";

/** The idempotency key of a user's command on themselves. */
export interface UserCommand {
  readonly self: Self;
  readonly method: string;
  readonly key: string;
  /** Of the whole request. */
  readonly fingerprint: Buffer;
}

const SELECT = `select fingerprint from identity.idempotency_keys
  where bucket = $1 and caller = $2 and method = $3 and key = $4`;

/** Whether the command was carried out before. Throws IDEMPOTENCY_KEY_REUSED when it was another one. */
export async function wasDone(ctx: Context, command: UserCommand): Promise<boolean> {
  const [row] = await ctx.shardOfBucket(command.self.bucket).read<{ fingerprint: Buffer }>(SELECT, columnsOf(command));
  return row !== undefined && isSame(command, row.fingerprint);
}

/**
 * Claims the key in the command's own transaction; of several at once the others wait for the first. Answers false when the
 * command was carried out before. Throws IDEMPOTENCY_KEY_REUSED.
 */
export async function claimKey(db: PoolClient, command: UserCommand): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into identity.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
     values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    [...columnsOf(command), command.fingerprint, command.self.userUuid],
  );
  if (rowCount === 1) return true;
  const { rows } = await db.query<{ fingerprint: Buffer }>(SELECT, columnsOf(command));
  // Expired and taken away just now: the command may be done again, under no key.
  return rows[0] === undefined || !isSame(command, rows[0].fingerprint);
}

/** For a command that came to nothing after its key was committed: the same key asks for it anew. */
export async function forgetKey(db: PoolClient, command: UserCommand): Promise<void> {
  await db.query(
    `delete from identity.idempotency_keys
      where bucket = $1 and caller = $2 and method = $3 and key = $4 and fingerprint = $5`,
    [...columnsOf(command), command.fingerprint],
  );
}

function columnsOf({ self, method, key }: UserCommand): unknown[] {
  return [self.bucket, self.userId, method, key];
}

/** Throws IDEMPOTENCY_KEY_REUSED for another request. */
function isSame({ self, key, fingerprint }: UserCommand, known: Buffer): true {
  if (!known.equals(fingerprint)) throw refusals.idempotencyKeyReused(key, uuidToId("user", self.userUuid));
  return true;
}
