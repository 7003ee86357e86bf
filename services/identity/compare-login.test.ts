import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FraudSignal_Severity, FraudSignal_Type } from "#proto/ledgermesh/identity/v1/events.ts";
import { compareLogin, FAILURES_PER_SIGNAL, MAX_TRAVEL_KM_PER_HOUR } from "#services/identity/compare-login.ts";
import { distanceKm } from "#services/identity/countries.ts";

const HOUR_MS = 3_600_000;
const { NEW_DEVICE, NEW_COUNTRY_LOGIN, IMPOSSIBLE_TRAVEL, TOO_MANY_FAILURES } = FraudSignal_Type;
const success = {
  success: true,
  atMs: 10 * HOUR_MS,
  country: "CZ",
  isKnownDevice: true,
  isKnownCountry: true,
} as const;
const earlier = { hasSignedIn: true, last: { country: "CZ", atMs: 9 * HOUR_MS } };
const typesOf = (...parameters: Parameters<typeof compareLogin>) => compareLogin(...parameters).map(({ type }) => type);

test("a sign-in like the last one gives no signal, and the first of all has nothing to be compared with", () => {
  assert.deepEqual(typesOf(success, earlier), []);
  const first = { ...success, isKnownDevice: false, isKnownCountry: false };
  assert.deepEqual(typesOf(first, { hasSignedIn: false, last: undefined }), []);
});

test("a new device, a new country and a journey that nobody can make give a signal each", () => {
  assert.deepEqual(typesOf({ ...success, isKnownDevice: false }, earlier), [NEW_DEVICE]);
  assert.deepEqual(typesOf({ ...success, country: "DE", isKnownCountry: false }, earlier), [NEW_COUNTRY_LOGIN]);
  const far = { ...success, country: "AU", isKnownCountry: false, isKnownDevice: false };
  assert.deepEqual(typesOf(far, earlier), [NEW_DEVICE, NEW_COUNTRY_LOGIN, IMPOSSIBLE_TRAVEL]);
  assert.deepEqual(typesOf({ ...far, isKnownCountry: true, isKnownDevice: true }, earlier), [IMPOSSIBLE_TRAVEL]);
  assert.deepEqual(typesOf({ ...far, atMs: 40 * HOUR_MS }, earlier), [NEW_DEVICE, NEW_COUNTRY_LOGIN]);
  assert.deepEqual(
    compareLogin(far, earlier).map(({ severity }) => severity),
    [FraudSignal_Severity.LOW, FraudSignal_Severity.MEDIUM, FraudSignal_Severity.HIGH],
  );
});

test("where the country is not known, neither it nor the journey gives a signal", () => {
  assert.deepEqual(typesOf({ ...success, country: "", isKnownCountry: false }, earlier), []);
  assert.deepEqual(typesOf({ ...success, country: "AU" }, { hasSignedIn: true, last: undefined }), []);
});

test("every fifth failure gives a signal, and a flood of them a grave one", () => {
  const told = Array.from({ length: 30 }, (_, index) => compareLogin({ success: false, failures: index + 1 }, earlier));
  assert.deepEqual(
    told.flatMap((signals, index) => signals.map(({ type, severity }) => [index + 1, type, severity])),
    [5, 10, 15, 20, 25, 30].map((count) => [
      count,
      TOO_MANY_FAILURES,
      count < 20 ? FraudSignal_Severity.MEDIUM : FraudSignal_Severity.HIGH,
    ]),
  );
  assert.equal(FAILURES_PER_SIGNAL, 5);
});

test("a journey is impossible exactly when it is faster than an airliner, and more time never makes it so", () => {
  const country = fc.constantFrom("CZ", "US", "JP", "BR", "NG", "AU", "SG", "");
  fc.assert(
    fc.property(country, country, fc.nat(60 * HOUR_MS), fc.nat(10 * HOUR_MS), (from, to, elapsedMs, moreMs) => {
      const travels = (afterMs: number) =>
        typesOf(
          { ...success, country: to, atMs: 5 * HOUR_MS + afterMs },
          { hasSignedIn: true, last: { country: from, atMs: 5 * HOUR_MS } },
        ).includes(IMPOSSIBLE_TRAVEL);
      assert.equal(travels(elapsedMs), distanceKm(from, to) > (elapsedMs / HOUR_MS) * MAX_TRAVEL_KM_PER_HOUR);
      if (!travels(elapsedMs)) assert.equal(travels(elapsedMs + moreMs), false);
      if (from === to) assert.equal(travels(0), false);
    }),
  );
});
