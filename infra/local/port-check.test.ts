import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { takenPorts } from "#infra/local/port-check.ts";
import { portsOf } from "#infra/local/ports.ts";

const parts = [{ name: "nats", ports: ["nats", "nats_monitor"] as const }];

test("a taken port is named with its part and the variable that changes it; a free one is not", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const taken = (server.address() as AddressInfo).port;
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const ports = { ...portsOf("dev"), nats: taken, nats_monitor: (free.address() as AddressInfo).port };
  free.close();
  await once(free, "close");

  assert.deepEqual(await takenPorts(parts, ports), [
    `Port ${taken} of nats is taken by another program. Mend it: set LEDGERMESH_PORT_NATS to a free port.`,
  ]);
  server.close();
  await once(server, "close");
  assert.deepEqual(await takenPorts(parts, ports), []);
});

test("a port that is taken on all addresses is taken", async () => {
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  const ports = { ...portsOf("dev"), nats: (server.address() as AddressInfo).port };
  assert.match((await takenPorts([{ name: "nats", ports: ["nats"] }], ports)).join(), /is taken/);
  server.close();
});
