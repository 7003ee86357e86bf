import type { Call } from "#lib/grpc-server.ts";
import { parseId } from "#lib/ids.ts";
import type { Device, ForgetDeviceRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import { addIdentityEvent } from "#services/identity/add-identity-event.ts";
import type { Context } from "#services/identity/context.ts";
import { DEVICE_COLUMNS, type DeviceRow, toDevice } from "#services/identity/device.ts";
import { refusals } from "#services/identity/refusals.ts";
import { selfOf } from "#services/identity/self.ts";

export async function forgetDevice(ctx: Context, { deviceId }: ForgetDeviceRequest, call: Call): Promise<Device> {
  const self = selfOf(call);
  const device = parseId(deviceId, "dev");
  if (device === undefined || device.bucket !== self.bucket) throw refusals.deviceNotFound(deviceId);

  const row = await ctx.shardOfBucket(self.bucket).transact(async (db) => {
    const { rows } = await db.query<DeviceRow>(
      `delete from identity.devices where device_id = $1 and user_id = $2 returning ${DEVICE_COLUMNS}`,
      [device.uuid, self.userUuid],
    );
    if (rows[0] === undefined) return undefined;
    await addIdentityEvent(db, {
      type: "device_forgotten",
      bucket: self.bucket,
      aggregateId: deviceId,
      aggregateVersion: 1n,
      payload: { deviceId, userId: self.userId },
    });
    return rows[0];
  });
  if (row === undefined) throw refusals.deviceNotFound(deviceId);
  return toDevice(row);
}
