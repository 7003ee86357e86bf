import type { Party, PartyPosting, Payment, Town } from "#cli/economy.ts";
import type { Random } from "#cli/random.ts";

/** One town of the demo's economy: who lives there, and what they pay each other. */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const WEEK_DAYS = 7;
const MONTH_DAYS = 30;
const SALARY_EVERY_DAYS = 14;
/** Of every purchase. */
const CARD_FEE = 0.01;

const PEOPLE =
  "Hazel Rowan Willow Laurel Juniper Olive Linden Aspen Myrtle Sorrel Alder Bay Briar Clover Fern Heather Ivy Jasmine " +
  "Maple Poppy Reed Sage Violet Zinnia";
const SHOPS = [
  { name: "Bakery", cheapestCents: 200, dearestCents: 1_200, goods: ["bread and rolls", "a cake", "two pretzels"] },
  { name: "Grocer", cheapestCents: 800, dearestCents: 7_000, goods: ["groceries", "fruit", "the weekly shopping"] },
  { name: "Bookshop", cheapestCents: 600, dearestCents: 4_000, goods: ["a novel", "a cookbook", "a map"] },
  { name: "Café", cheapestCents: 300, dearestCents: 2_500, goods: ["coffee", "breakfast for two", "lunch"] },
  { name: "Pharmacy", cheapestCents: 400, dearestCents: 3_500, goods: ["plasters", "vitamins", "a prescription"] },
];

type Shop = Party & (typeof SHOPS)[number];
type Person = Party & { readonly employer: Party; readonly salaryEuros: number; readonly rentEuros: number };

export interface TownPlan {
  readonly town: Town;
  readonly people: readonly Person[];
  readonly shops: readonly Shop[];
  readonly employers: readonly Party[];
  readonly landlord: Party;
  /** Euros to minor units of the town's currency, at least one. */
  readonly money: (euros: number) => bigint;
}

export function makeTown(
  name: string,
  currency: string,
  minorUnitsPerEuro: number,
  peopleCount: number,
  random: Random,
): TownPlan {
  const merchant = (merchantName: string): Party => ({
    id: `${name}/${merchantName}`,
    name: merchantName,
    kind: "MERCHANT",
  });
  const employers = [merchant("Mill"), merchant("Harbour")];
  const landlord = merchant("Housing");
  const shops = SHOPS.map((shop) => ({ ...shop, ...merchant(shop.name) }));
  const names = PEOPLE.split(" ");
  const people = Array.from({ length: peopleCount }, (_, index): Person => {
    const round = Math.floor(index / names.length);
    const personName = `${names[index % names.length]}${round === 0 ? "" : ` ${round + 1}`}`;
    return {
      id: `${name}/${personName}`,
      name: personName,
      kind: "WALLET",
      employer: employers[index % employers.length] as Party,
      salaryEuros: random.between(900, 1_500),
      rentEuros: random.between(380, 650),
    };
  });
  return {
    town: { name, currency, parties: [...people, ...shops, ...employers, landlord] },
    people,
    shops,
    employers,
    landlord,
    money: (euros) => BigInt(Math.max(1, Math.round(euros * minorUnitsPerEuro))),
  };
}

/** What somebody means to do on a day. The amounts are known only then: who has too little leaves it. */
interface Intent {
  readonly minute: number;
  readonly type: string;
  readonly memo: string;
  readonly postings: (balanceOf: (party: Party) => bigint) => readonly PartyPosting[];
}

/** The payments of a town in the order of their times. */
export function townPayments(plan: TownPlan, days: number, endMs: number, random: Random): Payment[] {
  const payments: Payment[] = [];
  const balances = new Map<string, bigint>(plan.town.parties.map(({ id }) => [id, 0n]));
  const balanceOf = ({ id }: Party) => balances.get(id) ?? 0n;
  for (let day = 0; day < days; day += 1) {
    const intents = [
      ...merchantIntents(plan, day, random),
      ...plan.people.flatMap((one) => dayOf(one, plan, day, random)),
    ];
    for (const { minute, type, memo, postings: decide } of intents.sort((a, b) => a.minute - b.minute)) {
      const postings = decide(balanceOf);
      if (!isAffordable(postings, balances)) continue;
      for (const { from, to, amountMinorUnits } of postings) {
        change(balances, from, -amountMinorUnits);
        change(balances, to, amountMinorUnits);
      }
      payments.push({
        town: plan.town,
        timeMs: endMs - (days - day) * DAY_MS + minute * MINUTE_MS,
        type,
        memo,
        postings,
      });
    }
  }
  return payments;
}

/** Whether every posting in its turn leaves its payer with nothing less than zero; system accounts may owe. */
function isAffordable(postings: readonly PartyPosting[], balances: ReadonlyMap<string, bigint>): boolean {
  const after = new Map<string, bigint>();
  const balanceOf = (id: string) => after.get(id) ?? balances.get(id) ?? 0n;
  for (const { from, to, amountMinorUnits } of postings) {
    if (amountMinorUnits <= 0n || (balances.has(from) && balanceOf(from) < amountMinorUnits)) return false;
    after.set(from, balanceOf(from) - amountMinorUnits);
    after.set(to, balanceOf(to) + amountMinorUnits);
  }
  return true;
}

function change(balances: Map<string, bigint>, id: string, byMinorUnits: bigint): void {
  const before = balances.get(id);
  if (before !== undefined) balances.set(id, before + byMinorUnits);
}

/** What shops and employers do on a day. */
function merchantIntents({ shops, employers, money }: TownPlan, day: number, random: Random): Intent[] {
  const intents: Intent[] = [];
  for (const employer of employers) {
    if (day === 0)
      intents.push(intent(random, 0, 1, "investment", "to begin with", "system:investors", employer.id, money(20_000)));
    if (day % WEEK_DAYS === 0) {
      const earned = money(random.between(5_000, 9_000));
      intents.push(intent(random, 6, 8, "sale", "goods sold abroad", "system:exports", employer.id, earned));
    }
  }
  for (const shop of shops) {
    if (day === 0)
      intents.push(intent(random, 0, 1, "investment", "to begin with", "system:investors", shop.id, money(2_500)));
    if (day % WEEK_DAYS !== WEEK_DAYS - 1) continue;
    intents.push({
      minute: minuteBetween(random, 20, 22),
      type: "supplies",
      memo: "new stock",
      postings: (balanceOf) => [{ from: shop.id, to: "system:wholesale", amountMinorUnits: balanceOf(shop) / 3n }],
    });
  }
  return intents;
}

/** What a person does on a day. */
function dayOf(person: Person, plan: TownPlan, day: number, random: Random): Intent[] {
  const { people, landlord, money } = plan;
  const { id, employer, salaryEuros, rentEuros } = person;
  const intents: Intent[] = [];
  const pay = (hours: readonly [number, number], type: string, memo: string, from: string, to: string, euros: number) =>
    intents.push(intent(random, ...hours, type, memo, from, to, money(euros)));

  if (day === 0) pay([7, 9], "deposit", "cash paid in", "system:cash", id, random.between(200, 900));
  if (day % SALARY_EVERY_DAYS === 1) pay([8, 10], "salary", "two weeks' work", employer.id, id, salaryEuros);
  if (day % MONTH_DAYS === 4) pay([10, 12], "rent", "the month's rent", id, landlord.id, rentEuros);
  if (day % MONTH_DAYS === MONTH_DAYS - 1) pay([23, 24], "account_fee", "the month's fee", id, "system:fees", 2);
  if (random.chance(0.7)) intents.push(purchase(person, plan, random));
  if (random.chance(0.25)) intents.push(purchase(person, plan, random));
  if (random.chance(0.05)) pay([12, 20], "withdrawal", "cash", id, "system:cash", 10 * random.between(2, 8));
  const friend = random.pick(people);
  if (friend !== person && random.chance(0.12)) {
    pay(
      [18, 23],
      "gift",
      random.pick(["for the tickets", "thank you", "dinner"]),
      id,
      friend.id,
      random.between(5, 40),
    );
  }
  return intents;
}

/** Two postings: the price to the shop, and the shop's fee out of it. */
function purchase({ id }: Person, { shops, money }: TownPlan, random: Random): Intent {
  const shop = random.pick(shops);
  const price = money(random.between(shop.cheapestCents, shop.dearestCents) / 100);
  const fee = BigInt(Math.max(1, Math.round(Number(price) * CARD_FEE)));
  return {
    minute: minuteBetween(random, 10, 20),
    type: "purchase",
    memo: random.pick(shop.goods),
    postings: () => [
      { from: id, to: shop.id, amountMinorUnits: price },
      { from: shop.id, to: "system:fees", amountMinorUnits: fee },
    ],
  };
}

function intent(
  random: Random,
  firstHour: number,
  lastHour: number,
  type: string,
  memo: string,
  from: string,
  to: string,
  amountMinorUnits: bigint,
): Intent {
  return {
    minute: minuteBetween(random, firstHour, lastHour),
    type,
    memo,
    postings: () => [{ from, to, amountMinorUnits }],
  };
}

function minuteBetween(random: Random, firstHour: number, lastHour: number): number {
  return random.between(firstHour * 60, lastHour * 60 - 1);
}
