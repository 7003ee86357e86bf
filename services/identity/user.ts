import { timeMsOfUuid, uuidToId } from "#lib/ids.ts";
import { type User, User_Role, User_Status, type UserSettings } from "#proto/ledgermesh/identity/v1/identity.ts";

/** A row of `identity.users`, with the address that waits for its confirmation. */
export interface UserRow {
  readonly user_id: string;
  readonly role: keyof typeof User_Role & ("USER" | "MERCHANT" | "OPERATOR");
  readonly status: "ACTIVE" | "CLOSED";
  readonly email: string | null;
  readonly name: string | null;
  readonly phone: string | null;
  readonly country: string | null;
  readonly settings: UserSettings | null;
  readonly version: string;
  readonly password_changed_at: Date;
  readonly pending_email: string | null;
}

/** To be selected from `identity.users u`. */
export const USER_COLUMNS = `u.user_id, u.role, u.status, u.email, u.name, u.phone, u.country, u.settings, u.version,
  u.password_changed_at, (select c.new_email from identity.email_changes c
    where c.user_id = u.user_id and c.state = 'PENDING' and c.expires_at > now()) as pending_email`;

/** A user as the API answers them. */
export function toUser(row: UserRow): User {
  return {
    userId: uuidToId("user", row.user_id),
    role: User_Role[row.role],
    status: User_Status[row.status],
    email: row.email ?? "",
    name: row.name ?? "",
    phone: row.phone ?? "",
    country: row.country ?? "",
    settings: row.settings ?? undefined,
    version: BigInt(row.version),
    createTime: new Date(timeMsOfUuid(row.user_id)),
    passwordChangeTime: row.password_changed_at,
    pendingEmail: row.pending_email ?? "",
  };
}
