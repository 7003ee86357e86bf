import type { Call } from "#lib/grpc-server.ts";
import type { ListDevicesRequest, ListDevicesResponse } from "#proto/ledgermesh/identity/v1/identity.ts";
import type { Context } from "#services/identity/context.ts";
import { DEVICE_COLUMNS, type DeviceRow, MAX_DEVICES, toDevice } from "#services/identity/device.ts";
import { selfOf } from "#services/identity/self.ts";

export async function listDevices(
  ctx: Context,
  _request: ListDevicesRequest,
  call: Call,
): Promise<ListDevicesResponse> {
  const self = selfOf(call);
  const rows = await ctx
    .shardOfBucket(self.bucket)
    .read<DeviceRow>(
      `select ${DEVICE_COLUMNS} from identity.devices where user_id = $1 order by last_login_at desc, device_id limit $2`,
      [self.userUuid, MAX_DEVICES],
    );
  return { devices: rows.map(toDevice) };
}
