import assert from "node:assert/strict";
import { test } from "node:test";
import { addressLimit } from "#services/identity/address-limit.ts";

test("an address has its burst, then its rate, and no other address notices", () => {
  let now = 1_000;
  const limit = addressLimit({ burst: 3, perSecond: 2 }, () => now);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => limit.take("192.0.2.1")),
    [0, 0, 0, 500],
  );
  assert.equal(limit.take("192.0.2.2"), 0);
  now += 500;
  assert.deepEqual(
    [1, 2].map(() => limit.take("192.0.2.1")),
    [0, 500],
  );
  now += 3_600_000;
  assert.deepEqual(
    [1, 2, 3, 4].map(() => limit.take("192.0.2.1")),
    [0, 0, 0, 500],
  );
});

test("refused attempts cost nothing: who keeps knocking is let in at the rate all the same", () => {
  let now = 0;
  const limit = addressLimit({ burst: 1, perSecond: 1 }, () => now);
  let taken = 0;
  for (; now < 10_000; now += 10) if (limit.take("192.0.2.1") === 0) taken += 1;
  assert.equal(taken, 10);
});

test("the addresses of one IPv6 network are one, and IPv4 inside of IPv6 is itself", () => {
  const limit = addressLimit({ burst: 1, perSecond: 1 }, () => 0);
  assert.equal(limit.take("2001:db8:1:2::1"), 0);
  assert.notEqual(limit.take("2001:db8:1:2:ffff:0:0:9"), 0);
  assert.equal(limit.take("2001:db8:1:3::1"), 0);
  assert.equal(limit.take("2001:db8::1"), 0);
  assert.equal(limit.take("192.0.2.7"), 0);
  assert.notEqual(limit.take("::ffff:192.0.2.7"), 0);
});

test("what is known of addresses is bounded", () => {
  const limit = addressLimit({ burst: 1, perSecond: 1 }, () => 0);
  assert.equal(limit.take("first"), 0);
  for (let index = 0; index < 99_999; index += 1) limit.take(`10.${index}`);
  assert.notEqual(limit.take("first"), 0);
  for (let index = 0; index < 100_000; index += 1) limit.take(`11.${index}`);
  assert.equal(limit.take("first"), 0);
});
