import { seededRandom } from "#cli/random.ts";
import { makeTown, townPayments } from "#cli/town.ts";

/**
 * A lively little economy for the demo: towns with people, shops, employers and a landlord, day by day. Made by a seed: the
 * same numbers give the same payments. Nobody spends what they do not have.
 */
export interface Economy {
  readonly towns: readonly Town[];
  /** In the order of their times. */
  readonly payments: readonly Payment[];
}

/** Money never leaves a town: its accounts have one currency, and one bucket, so that every payment stays on one shard. */
export interface Town {
  readonly name: string;
  readonly currency: string;
  readonly parties: readonly Party[];
}

export interface Party {
  /** Unique over all towns: TOWN/NAME. */
  readonly id: string;
  readonly name: string;
  readonly kind: "WALLET" | "MERCHANT";
}

export interface Payment {
  readonly town: Town;
  readonly timeMs: number;
  readonly type: string;
  readonly memo: string;
  readonly postings: readonly PartyPosting[];
}

/** From and to are ids of parties, or `system:NAME`. */
export interface PartyPosting {
  readonly from: string;
  readonly to: string;
  readonly amountMinorUnits: bigint;
}

export interface EconomyOptions {
  readonly seed: number;
  readonly people: number;
  readonly days: number;
  /** The last day ends here; no payment is later. */
  readonly endMs: number;
}

/** Of every kind of currency: two digits behind the point, none, three. A euro is there roughly so many minor units. */
const TOWNS = [
  { name: "Lindenau", currency: "EUR", minorUnitsPerEuro: 100 },
  { name: "Maplewood", currency: "USD", minorUnitsPerEuro: 110 },
  { name: "Sakuragi", currency: "JPY", minorUnitsPerEuro: 160 },
  { name: "Palm Bay", currency: "KWD", minorUnitsPerEuro: 330 },
];

/** Makes the economy of so many people (at least one a town) over so many days. */
export function makeEconomy({ seed, people, days, endMs }: EconomyOptions): Economy {
  const lives = TOWNS.map(({ name, currency, minorUnitsPerEuro }, index) => {
    const random = seededRandom(seed * TOWNS.length + index);
    const peopleHere = Math.max(1, Math.floor((people + TOWNS.length - 1 - index) / TOWNS.length));
    const plan = makeTown(name, currency, minorUnitsPerEuro, peopleHere, random);
    return { town: plan.town, payments: townPayments(plan, days, endMs, random) };
  });
  return {
    towns: lives.map(({ town }) => town),
    payments: lives.flatMap(({ payments }) => payments).sort((a, b) => a.timeMs - b.timeMs),
  };
}

/** What everybody has in the end, by the id of a party or `system:NAME CURRENCY`. */
export function finalBalances({ towns, payments }: Economy): Map<string, bigint> {
  const balances = new Map<string, bigint>(towns.flatMap(({ parties }) => parties.map(({ id }) => [id, 0n] as const)));
  const change = (id: string, currency: string, byMinorUnits: bigint) => {
    const name = id.startsWith("system:") ? `${id} ${currency}` : id;
    balances.set(name, (balances.get(name) ?? 0n) + byMinorUnits);
  };
  for (const { town, postings } of payments) {
    for (const { from, to, amountMinorUnits } of postings) {
      change(from, town.currency, -amountMinorUnits);
      change(to, town.currency, amountMinorUnits);
    }
  }
  return balances;
}
