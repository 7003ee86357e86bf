import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  portNames,
  portNamesOf,
  portsOf,
  SHARDS_MAX,
  shardCountOf,
  shardPortsOf,
  stackNames,
} from "#infra/local/ports.ts";
import { Problem } from "#infra/local/problem.ts";

const nothing = () => undefined;
const only = (port: string, value: string) => (name: string) => (name === port ? value : undefined);

test("all stacks run beside each other: no two share a port, and none is one that clients are given", () => {
  const clientPortMin = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);
  const all = stackNames.flatMap((stack) => Object.values(portsOf(stack, nothing)));
  assert.equal(new Set(all).size, stackNames.length * portNames.length);
  assert.ok(Math.max(...all) < Math.max(clientPortMin, 32_768), `highest port ${Math.max(...all)}`);
});

test("each stack has one shard or more, and a port for each; the stacks of the tests that need three have three", () => {
  for (const stack of stackNames) {
    const count = shardCountOf(stack);
    assert.ok(Number.isInteger(count) && count >= 1 && count <= SHARDS_MAX, `${stack}: ${count} shards`);
    assert.equal(shardPortsOf(stack).length, count);
    assert.deepEqual(
      portNamesOf(stack).filter((name) => name.startsWith("postgres")),
      shardPortsOf(stack),
    );
  }
  const counts = Object.fromEntries(stackNames.map((stack) => [stack, shardCountOf(stack)]));
  assert.deepEqual(counts, { dev: 2, test: 3, bench: 2, launcher: 2, torture: 3, model: 3 });
});

test("the port of a shard that the stack does not have may serve another part", () => {
  const third = portsOf("dev", nothing).postgres_3;
  assert.equal(portsOf("dev", only("nats", String(third))).nats, third);
  assert.throws(
    () => portsOf("test", only("nats", String(portsOf("test", nothing).postgres_3))),
    /postgres_3 and nats/,
  );
});

test("a variable of a port that does not exist is refused by its name, in one line", () => {
  for (const variables of [["LEDGERMESH_PORT_GATWAY"], ["LEDGERMESH_PORT_gateway"], ["LEDGERMESH_PORT_POSTGRES_5"]]) {
    assert.throws(
      () => portsOf("dev", nothing, ["LEDGERMESH_PORT_NATS", ...variables]),
      (error: unknown) => {
        assert.ok(error instanceof Problem);
        assert.match(error.message, new RegExp(`^${variables[0]} is set, .*no such port\\. Mend it: .* GATEWAY,`));
        assert.equal(error.message.includes("\n"), false);
        return true;
      },
    );
  }
});

test("the environment changes one port, without the stack's offset", () => {
  const ports = portsOf("test", only("gateway", "9090"));
  assert.equal(ports.gateway, 9090);
  assert.equal(ports.ledger, portsOf("test", nothing).ledger);
});

test("an empty variable changes nothing", () => {
  assert.deepEqual(portsOf("dev", only("gateway", "")), portsOf("dev", nothing));
});

for (const value of ["0", "65536", "80a", "-1", "1.5", " 8080", "0x50"]) {
  test(`"${value}" is refused as a port, with the variable's name`, () => {
    const expected = `LEDGERMESH_PORT_NATS is "${value}", which is no port. Mend it: give a number from 1 to 65535.`;
    assert.throws(() => portsOf("dev", only("nats", value)), new Problem(expected));
  });
}

test("one port for two parts is refused, with both variables' names", () => {
  assert.throws(
    () => portsOf("dev", only("nats", "5501")),
    /Port 5501 .*LEDGERMESH_PORT_POSTGRES_1 or LEDGERMESH_PORT_NATS\b/,
  );
});
