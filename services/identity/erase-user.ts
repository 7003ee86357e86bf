import type { PoolClient } from "pg";

/**
 * Erases what is personal of a user from every table of identity, in one transaction on the user's shard. What stays: the id, the
 * role and the times of the user; ids and times of sessions, since services must hear that they have ended. A table that gets
 * something personal gets a line here (a test looks through all of them).
 */
const ERASE = [
  `update identity.users set status = 'CLOSED', email = null, email_key = null, password_hash = null, name = null, phone = null,
          country = null, settings = null, directory_change_id = null, version = version + 1, updated_at = now(), closed_at = now()
    where user_id = $1`,
  "update identity.sessions set address = '', user_agent = '' where user_id = $1",
  "delete from identity.login_events where user_id = $1",
  "delete from identity.login_challenges where user_id = $1",
  "delete from identity.outgoing_emails where user_id = $1",
  "delete from identity.totp where user_id = $1",
  "delete from identity.recovery_codes where user_id = $1",
  "delete from identity.devices where user_id = $1",
  "delete from identity.login_countries where user_id = $1",
  "delete from identity.login_states where user_id = $1",
  "delete from identity.funding_sources where user_id = $1",
];

export async function eraseUser(db: PoolClient, userUuid: string): Promise<void> {
  for (const statement of ERASE) await db.query(statement, [userUuid]);
}
