import assert from "node:assert/strict";
import { test } from "node:test";
import { type Economy, finalBalances, makeEconomy } from "#cli/economy.ts";

const END_MS = Date.UTC(2026, 10, 21);
const DAY_MS = 86_400_000;
const make = (seed: number, people = 60, days = 30) => makeEconomy({ seed, people, days, endMs: END_MS });
const asText = (economy: Economy) =>
  JSON.stringify(economy, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value));

test("the same seed makes the same payments, another seed others", () => {
  assert.equal(asText(make(1)), asText(make(1)));
  assert.notEqual(asText(make(1)), asText(make(2)));
});

test("nobody ever pays what they do not have, and every amount is above zero", () => {
  for (const seed of [1, 2, 3]) {
    const { payments } = make(seed);
    const balances = new Map<string, bigint>();
    for (const { postings, town } of payments) {
      for (const { from, to, amountMinorUnits } of postings) {
        assert.ok(amountMinorUnits > 0n);
        balances.set(from, (balances.get(from) ?? 0n) - amountMinorUnits);
        balances.set(to, (balances.get(to) ?? 0n) + amountMinorUnits);
        const known = town.parties.some(({ id }) => id === from);
        assert.ok(!known || (balances.get(from) ?? 0n) >= 0n, `${from} overdraws`);
        assert.ok(from.startsWith("system:") || known, `${from} is of another town`);
      }
    }
  }
});

test("money comes to zero in each currency, with digits behind the point or without", () => {
  const economy = make(1);
  assert.deepEqual(
    economy.towns.map(({ currency }) => currency),
    ["EUR", "USD", "JPY", "KWD"],
  );
  const balances = finalBalances(economy);
  for (const { currency, parties } of economy.towns) {
    const ids = [...parties.map(({ id }) => id), ...[...balances.keys()].filter((id) => id.endsWith(` ${currency}`))];
    assert.ok(ids.length > parties.length);
    assert.equal(
      ids.reduce((sum, id) => sum + (balances.get(id) ?? 0n), 0n),
      0n,
    );
  }
});

test("it is lively: in each town there is every kind of payment, in the order of time, within its days", () => {
  const { towns, payments } = make(1);
  for (const town of towns) {
    const types = new Set(payments.filter((payment) => payment.town === town).map(({ type }) => type));
    for (const type of ["deposit", "salary", "rent", "purchase", "gift", "withdrawal", "supplies", "account_fee"]) {
      assert.ok(types.has(type), `${town.name} has no ${type}`);
    }
  }
  const times = payments.map(({ timeMs }) => timeMs);
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  assert.ok((times[0] as number) >= END_MS - 30 * DAY_MS && (times.at(-1) as number) < END_MS);
});

test("the smallest economy has somebody in every town", () => {
  const { towns, payments } = make(7, 1, 1);
  assert.ok(towns.every(({ parties }) => parties.filter(({ kind }) => kind === "WALLET").length === 1));
  assert.ok(payments.length > 0);
  const names = make(1, 400).towns.flatMap(({ parties }) => parties.map(({ id }) => id));
  assert.equal(new Set(names).size, names.length);
});
