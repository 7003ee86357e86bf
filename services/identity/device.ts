import type { PoolClient } from "pg";
import { idToUuid, uuidToId } from "#lib/ids.ts";
import type { Device } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import type { Client } from "#services/identity/note-login.ts";

/** What a user signs in from, by its fingerprint (note-login.ts says what that is). */
export interface DeviceRow {
  readonly device_id: string;
  readonly browser: string;
  readonly operating_system: string;
  readonly first_login_at: Date;
  readonly last_login_at: Date;
  readonly last_address: string;
  readonly last_country: string;
}

export const DEVICE_COLUMNS =
  "device_id, browser, operating_system, first_login_at, last_login_at, last_address, last_country";
/** Of a user; the one that was used least lately makes room. */
export const MAX_DEVICES = 50;

export function toDevice(row: DeviceRow): Device {
  return {
    deviceId: uuidToId("dev", row.device_id),
    browser: row.browser,
    operatingSystem: row.operating_system,
    firstLoginTime: row.first_login_at,
    lastLoginTime: row.last_login_at,
    lastAddress: row.last_address,
    lastCountry: row.last_country,
  };
}

/** Notes a sign-in from a device. Answers whether it was known. The user's login state is locked, so that counts are exact. */
export async function noteDevice(
  ctx: Context,
  db: PoolClient,
  userUuid: string,
  bucket: number,
  client: Client,
  country: string,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update identity.devices set last_login_at = clock_timestamp(), last_address = $3, last_country = $4
      where user_id = $1 and fingerprint = $2`,
    [userUuid, client.deviceFingerprint, client.address, country],
  );
  if (rowCount === 1) return true;
  await db.query(
    `delete from identity.devices where device_id in
       (select device_id from identity.devices where user_id = $1 order by last_login_at desc, device_id offset $2)`,
    [userUuid, MAX_DEVICES - 1],
  );
  await db.query(
    `insert into identity.devices (device_id, bucket, user_id, fingerprint, browser, operating_system, last_address, last_country)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      idToUuid(ctx.newId("dev", bucket)),
      bucket,
      userUuid,
      client.deviceFingerprint,
      client.browser,
      client.operatingSystem,
      client.address,
      country,
    ],
  );
  return false;
}
