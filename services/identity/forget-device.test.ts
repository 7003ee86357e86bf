import assert from "node:assert/strict";
import { test } from "node:test";
import { call } from "#lib/grpc-client.ts";
import type { SessionTokens } from "#proto/ledgermesh/identity/v1/identity.ts";
import { identity, newId, postgres, shardNumbers } from "#tests/stack.ts";
import { bearer, signIn, signUp } from "#tests/users.ts";

const devicesOf = async (tokens: SessionTokens) =>
  (await call(identity, identity.listDevices, {}, bearer(tokens))).response.devices;
const forget = (tokens: SessionTokens, deviceId: string) =>
  call(identity, identity.forgetDevice, { deviceId }, bearer(tokens));

test("a forgotten device is gone, told of, and counts as new at the next sign-in", async () => {
  const user = await signUp();
  const tokens = await signIn(user);
  const [device] = await devicesOf(tokens);
  const { response } = await forget(tokens, device?.deviceId as string);
  assert.deepEqual(response, device);
  assert.deepEqual(await devicesOf(tokens), []);
  await signIn(user);
  const [again] = await devicesOf(tokens);
  assert.notEqual(again?.deviceId, device?.deviceId);
  const perShard = await Promise.all(
    shardNumbers.map((shard) =>
      postgres(shard).query("select type from identity.events where payload like '%' || $1 || '%' order by number", [
        user.userId,
      ]),
    ),
  );
  const types = perShard.flatMap(({ rows }) => rows.map(({ type }) => type as string));
  assert.deepEqual(types.slice(-3).sort(), ["device_forgotten", "fraud_signal", "session_created"]);
});

test("another's device is answered like one that is not there", async () => {
  const [ada, eve] = await Promise.all([signUp(), signUp()]);
  const [adas, eves] = await Promise.all([signIn(ada), signIn(eve)]);
  const [device] = await devicesOf(adas);
  const missing = newId("dev", 0);
  for (const deviceId of [device?.deviceId as string, missing, "dev_1", "", "' or 1=1 --"]) {
    await assert.rejects(forget(eves, deviceId), (error: { code: number; reason: string; message: string }) => {
      assert.deepEqual([error.code, error.reason], [5, "DEVICE_NOT_FOUND"]);
      assert.equal(error.message, `There is no device ${deviceId}.`);
      return true;
    });
  }
  assert.equal((await devicesOf(adas)).length, 1);
});
