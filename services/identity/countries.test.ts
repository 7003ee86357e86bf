import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { distanceKm, greatCircleKm, openCountries } from "#services/identity/countries.ts";

const countryOf = await openCountries();
const CODES = ["CZ", "DE", "US", "JP", "BR", "NG", "AU", "RU", "CL", "AR", "SG", "VA", "XX", ""];

test("an address tells its country, and one that belongs to none tells nothing", () => {
  assert.equal(countryOf("8.8.8.8"), "US");
  assert.equal(countryOf("195.113.144.230"), "CZ");
  assert.equal(countryOf("2001:718:1::1"), "CZ");
  for (const address of ["127.0.0.1", "10.1.2.3", "::1", "", "nowhere", "999.1.1.1", "8.8.8.8; drop table"]) {
    assert.equal(countryOf(address), "", address);
  }
});

test("great circles are those of the globe", () => {
  const [prague, sydney] = [
    { latitude: 50.08, longitude: 14.43 },
    { latitude: -33.87, longitude: 151.21 },
  ];
  assert.ok(Math.abs(greatCircleKm(prague, sydney) - 16_080) < 60, `${greatCircleKm(prague, sydney)}`);
  assert.ok(Math.abs(greatCircleKm({ latitude: 0, longitude: 0 }, { latitude: 0, longitude: 180 }) - 20_015) < 1);
  const place = fc.record({
    latitude: fc.double({ min: -90, max: 90, noNaN: true }),
    longitude: fc.double({ min: -180, max: 180, noNaN: true }),
  });
  fc.assert(
    fc.property(place, place, (one, other) => {
      const km = greatCircleKm(one, other);
      assert.ok(km >= 0 && km <= 20_016, `${km}`);
      assert.ok(Math.abs(km - greatCircleKm(other, one)) < 1e-6);
    }),
  );
});

test("neighbours are near, other continents far, and what is not known is no distance", () => {
  for (const [one, other] of [
    ["CZ", "DE"],
    ["CL", "AR"],
    ["US", "CA"],
    ["RU", "FI"],
    ["RU", "CN"],
  ] as const) {
    assert.equal(distanceKm(one, other), 0, `${one} ${other}`);
  }
  assert.ok(distanceKm("CZ", "AU") > 8_000);
  assert.ok(distanceKm("CZ", "JP") > 7_000);
  for (const one of CODES) {
    for (const other of CODES) assert.equal(distanceKm(one, other), distanceKm(other, one));
    assert.equal(distanceKm(one, one), 0);
    assert.equal(distanceKm(one, "XX"), 0);
  }
});
