import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import { CreateSessionRequest } from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity } from "#tests/stack.ts";
import { bearer, PASSWORD, signIn, signUp } from "#tests/users.ts";

const signInWith = (email: string, deviceId: string) =>
  call(identity, identity.createSession, CreateSessionRequest.fromPartial({ email, password: PASSWORD }), {
    "x-device-id": deviceId,
  });

test("everybody sees the devices that they signed in from, the last used first, and nobody else's", async () => {
  const [ada, eve] = await Promise.all([signUp(), signUp()]);
  const tokens = await signIn(ada);
  await signInWith(ada.email, "phone");
  await signInWith(ada.email, "phone");
  await signIn(eve);
  const { response } = await call(identity, identity.listDevices, {}, bearer(tokens));
  assert.equal(response.devices.length, 2);
  const [phone, other] = response.devices;
  for (const device of response.devices) assert.match(device.deviceId, /^dev_[0-9a-z]{26}$/);
  assert.ok((phone?.lastLoginTime as Date) > (phone?.firstLoginTime as Date));
  assert.ok((phone?.lastLoginTime as Date) > (other?.lastLoginTime as Date));
});

test("of more than fifty devices the one that was used least lately makes room", async () => {
  const user = await signUp();
  for (let index = 0; index < 52; index += 1) await signInWith(user.email, `device ${index}`);
  const { response } = await call(identity, identity.listDevices, {}, bearer(await signIn(user)));
  assert.equal(response.devices.length, 50);
});
