import assert from "node:assert/strict";
import { test } from "node:test";
import { tlsFiles } from "#infra/local/tls-files.ts";
import { call, openClient } from "#lib/grpc-client.ts";
import { parseId } from "#lib/ids.ts";
import { openTls } from "#lib/tls.ts";
import { CreateSessionRequest, IdentityServiceClient, type User } from "#proto/ledgermesh/identity/v1/identity.ts";
import { eventually, identity, postgres, shardNumbers, stack, stackName } from "#tests/stack.ts";
import { bearer, PASSWORD, signIn, signUp } from "#tests/users.ts";

/** As the gateway calls: only its word on a client's address counts. */
const tls = openTls(tlsFiles(stackName, "gateway"));
const clientOf = (userAgent: string) =>
  openClient(IdentityServiceClient, stack.identity, tls, {
    "grpc.primary_user_agent": userAgent,
    "grpc.use_local_subchannel_pool": 1,
  });
const FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0";
const FIREFOX_LATER = FIREFOX.replaceAll("140.0", "141.0");
const IPHONE =
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
const [PRAGUE, BERLIN, SYDNEY] = ["195.113.144.230", "141.20.1.1", "129.78.5.11"];

const [windows, later, phone] = [clientOf(FIREFOX), clientOf(FIREFOX_LATER), clientOf(IPHONE)];

async function signInFrom(
  user: User,
  address: string,
  gateway: typeof windows,
  password = PASSWORD,
  more = {},
): Promise<void> {
  const request = CreateSessionRequest.fromPartial({ email: user.email, password });
  await call(gateway, gateway.createSession, request, {
    "x-envoy-external-address": address,
    ...more,
  });
}

interface Signal {
  readonly type: string;
  readonly severity: string;
  readonly login_event_id: string;
  readonly user_id: string;
  readonly schema_version: number;
}

async function rowsOf(statement: string, value: string): Promise<Record<string, unknown>[]> {
  const perShard = await Promise.all(shardNumbers.map((shard) => postgres(shard).query(statement, [value])));
  return perShard.flatMap(({ rows }) => rows as Record<string, unknown>[]);
}

async function signalsOf(user: User): Promise<Signal[]> {
  const rows = await rowsOf(
    "select payload from identity.events where type = 'fraud_signal' and payload::json->>'user_id' = $1 order by number",
    user.userId,
  );
  return rows.map(({ payload }) => JSON.parse(String(payload)) as Signal);
}

const uuidOf = (user: User) => parseId(user.userId)?.uuid as string;

test("a sign-in from a new device, a new country and too far away is told, each with the attempt that it is about", async () => {
  const user = await signUp();
  await signInFrom(user, PRAGUE, windows);
  await signInFrom(user, PRAGUE, later);
  assert.deepEqual(await signalsOf(user), []);
  await signInFrom(user, PRAGUE, phone);
  await signInFrom(user, BERLIN, windows);
  await signInFrom(user, SYDNEY, phone);
  // It has been in all of these places by now.
  await signInFrom(user, SYDNEY, windows);
  const signals = await signalsOf(user);
  assert.deepEqual(
    signals.map(({ type, severity }) => `${type} ${severity}`),
    ["NEW_DEVICE LOW", "NEW_COUNTRY_LOGIN MEDIUM", "NEW_COUNTRY_LOGIN MEDIUM", "IMPOSSIBLE_TRAVEL HIGH"],
  );
  const events = await rowsOf(
    "select login_event_id::text as id, country, operating_system from identity.login_events where user_id = $1 order by occurred_at",
    uuidOf(user),
  );
  assert.deepEqual(
    events.map(({ country }) => country),
    ["CZ", "CZ", "CZ", "DE", "AU", "AU"],
  );
  const about = signals.map(({ login_event_id }) =>
    events.findIndex(({ id }) => id === parseId(login_event_id, "logn")?.uuid),
  );
  assert.deepEqual(about, [2, 3, 4, 4]);
  for (const signal of signals) assert.deepEqual([signal.schema_version, signal.user_id], [1, user.userId]);
  const text = JSON.stringify(signals);
  for (const personal of [user.email, PRAGUE, SYDNEY, "Firefox"]) assert.ok(!text.includes(personal as string));
});

test("an address that the client gives itself counts for nothing", async () => {
  const user = await signUp();
  await signIn(user);
  await call(
    identity,
    identity.createSession,
    CreateSessionRequest.fromPartial({ email: user.email, password: PASSWORD }),
    {
      "x-envoy-external-address": SYDNEY as string,
      "x-forwarded-for": SYDNEY as string,
    },
  );
  const events = await rowsOf("select address, country from identity.login_events where user_id = $1", uuidOf(user));
  assert.deepEqual(events, [
    { address: "", country: "" },
    { address: "", country: "" },
  ]);
});

test("too many failures in a row are told once for every five, exactly, also when they come at the same moment", async () => {
  const user = await signUp();
  const fail = () =>
    assert.rejects(signInFrom(user, PRAGUE as string, windows, "a wrong password"), { reason: "CREDENTIALS_INVALID" });
  await Promise.all(Array.from({ length: 10 }, fail));
  await eventually(
    async () => (await rowsOf("select from identity.login_events where user_id = $1", uuidOf(user))).length === 10,
    "all are noted",
  );
  const signals = await signalsOf(user);
  assert.deepEqual(
    signals.map(({ type, severity }) => `${type} ${severity}`),
    ["TOO_MANY_FAILURES MEDIUM", "TOO_MANY_FAILURES MEDIUM"],
  );
});

test("of two first sign-ins at once from one device one device comes of it, and no signal", async () => {
  const user = await signUp();
  await Promise.all(Array.from({ length: 6 }, () => signInFrom(user, PRAGUE as string, windows)));
  assert.deepEqual(await signalsOf(user), []);
  const { response } = await call(identity, identity.listDevices, {}, bearer(await signIn(user)));
  assert.deepEqual(response.devices.map(({ browser }) => browser).filter((browser) => browser === "Firefox").length, 1);
});

test("a device that names itself is another one than one of the same make that does not", async () => {
  const user = await signUp();
  await signInFrom(user, PRAGUE as string, windows, PASSWORD, { "x-device-id": "f3c1" });
  await signInFrom(user, PRAGUE as string, windows, PASSWORD, { "x-device-id": "f3c1" });
  await signInFrom(user, PRAGUE as string, windows, PASSWORD, { "x-device-id": "9a00" });
  assert.deepEqual(
    (await signalsOf(user)).map(({ type }) => type),
    ["NEW_DEVICE"],
  );
});
