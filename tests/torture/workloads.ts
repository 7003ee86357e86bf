import type { Random } from "#cli/random.ts";
import { parseId } from "#lib/ids.ts";
import type { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { newId, newOwner, shardNumbers, transferRequest } from "#tests/stack.ts";
import type { Unkeyed } from "#tests/torture/orders.ts";
import { FULL_ROOM_MINOR_UNITS, type TortureAccount, type World } from "#tests/torture/world.ts";

/** What the clients do, one row each. A row that comes later makes other loads of the same seeds. */

/** A transfer without its key. */
type Request = Omit<CreateTransferRequest, "idempotencyKey">;

export interface Plan {
  /** Several are one batch call of transfers. */
  readonly orders: readonly Unkeyed[];
  /** Sent through two ledgers at the same moment. */
  readonly twins?: boolean;
  /** Afterwards another body is sent under its key. */
  readonly reuse?: boolean;
  /** Its client asks until it is answered, whoever it is. */
  readonly insists?: boolean;
  /** What the client does next. */
  readonly next?: Plan;
}

export interface Workload {
  readonly name: string;
  /** How often, against the others. */
  readonly weight: number;
  /** Undefined while there is nothing to do it to. */
  readonly make: (world: World, random: Random) => Plan | undefined;
}

const MAX_SPREAD_POSTINGS = 5;
const MAX_BATCH_TRANSFERS = 30;
const MAX_GROUP_TRANSFERS = 5;
const MAX_BESIDE_GROUP = 4;

export const workloads: readonly Workload[] = [
  { name: "within", weight: 6, make: (world, random) => one(within(world, random)) },
  { name: "between", weight: 8, make: (world, random) => one(between(world, random)) },
  { name: "spread", weight: 4, make: (world, random) => one(spread(world, random)) },
  { name: "hot", weight: 4, make: (world, random) => one(payHot(world, random)) },
  { name: "salary", weight: 2, make: (world, random) => one(paySalary(world, random)) },
  { name: "cash", weight: 2, make: (world, random) => one(moveCash(world, random)) },
  { name: "bonus", weight: 1, make: (world, random) => one(payBonus(world, random)) },
  { name: "large", weight: 2, make: (world, random) => one(moveLarge(world, random)) },
  { name: "fill", weight: 4, make: (world, random) => one(fill(world, random)) },
  { name: "hopeless", weight: 2, make: (world, random) => one(hopeless(world, random)) },
  { name: "hold", weight: 4, make: placeHold },
  { name: "capture", weight: 5, make: capture },
  { name: "void", weight: 2, make: voidOne },
  { name: "reverse", weight: 4, make: reverse },
  { name: "quote", weight: 3, make: quote },
  { name: "convert", weight: 4, make: convert },
  { name: "freeze", weight: 1, make: freeze },
  { name: "batch", weight: 3, make: batch },
  { name: "group", weight: 3, make: batchWithGroup },
  { name: "twins", weight: 2, make: (world, random) => ({ ...one(any(world, random)), twins: true }) },
  { name: "reuse", weight: 1, make: (world, random) => ({ ...one(any(world, random)), reuse: true }) },
];

function one(request: Request): Plan {
  return plan({ rpc: "createTransfer", request });
}

function plan(order: Unkeyed): Plan {
  return { orders: [order] };
}

function any(world: World, random: Random): Request {
  return random.pick([within, between, between, spread, payHot, fill])(world, random);
}

function batch(world: World, random: Random): Plan {
  const count = random.between(2, MAX_BATCH_TRANSFERS);
  return { orders: Array.from({ length: count }, () => ({ rpc: "createTransfer", request: any(world, random) })) };
}

let groups = 0;

/** Some of a batch call belong together: one owner's payments, all or none. */
function batchWithGroup(world: World, random: Random): Plan {
  groups += 1;
  const group = `group-${groups}`;
  const payer = random.pick(world.of("wallet"));
  const purse = world.of("wallet").filter(({ ownerId }) => ownerId === payer.ownerId);
  const members = Array.from({ length: random.between(2, MAX_GROUP_TRANSFERS) }, (): Request => {
    const from = random.pick(purse);
    const to = other(random, [...world.of("wallet"), ...world.of("hot"), ...world.of("full")], from);
    return { ...request(from.id, to.id, amount(random), random), group };
  });
  const before = Array.from({ length: random.between(0, MAX_BESIDE_GROUP) }, () => any(world, random));
  const behind = Array.from({ length: random.between(0, MAX_BESIDE_GROUP) }, () => any(world, random));
  return {
    orders: [...before, ...members, ...behind].map((each) => ({ rpc: "createTransfer", request: each })),
    twins: random.chance(0.2),
  };
}

/** Now and then more than a wallet has. */
function amount(random: Random): bigint {
  return BigInt(random.chance(0.1) ? random.between(1, 5_000) : random.between(1, 200));
}

function request(debit: string, credit: string, amountMinorUnits: bigint, random: Random, currency = "EUR"): Request {
  const memo = random.chance(0.2) ? `memo ${random.between(1, 1_000)} — "ünï"` : "";
  const { idempotencyKey: _, ...rest } = transferRequest(debit, credit, amountMinorUnits, { currency, memo });
  return rest;
}

function within(world: World, random: Random): Request {
  const wallets = world.of("wallet", random.pick(shardNumbers));
  const payer = random.pick(wallets);
  return request(payer.id, other(random, wallets, payer).id, amount(random), random);
}

/** To another shard; now and then in another currency, or to one's own shard where the currency has but one wallet there. */
function between(world: World, random: Random): Request {
  const currency = random.chance(0.2) ? "JPY" : "EUR";
  const payer = random.pick(world.of("wallet", undefined, currency));
  const payee = random.pick(
    world.of("wallet", undefined, currency).filter(({ shard }) => shard !== payer.shard),
  ) as TortureAccount;
  return request(payer.id, payee.id, amount(random), random, currency);
}

/** One owner pays from both wallets to several shards. */
function spread(world: World, random: Random): Request {
  const payer = random.pick(world.of("wallet"));
  const purse = world.of("wallet").filter(({ ownerId }) => ownerId === payer.ownerId);
  const count = random.between(3, MAX_SPREAD_POSTINGS);
  const postings = Array.from({ length: count }, (_, index) => {
    const shard = shardNumbers[(index + payer.shard) % shardNumbers.length] as number;
    const from = random.pick(purse);
    const to = other(random, [...world.of("wallet", shard), ...world.of("hot", shard)], from);
    const amountMinorUnits = BigInt(random.between(1, 150));
    return { debitAccountId: from.id, creditAccountId: to.id, amountMinorUnits, currency: "EUR" };
  });
  return { ...request(payer.id, payer.id, 1n, random), postings, type: "spread" };
}

function payHot(world: World, random: Random): Request {
  return request(random.pick(world.of("wallet")).id, random.pick(world.of("hot")).id, amount(random), random);
}

/** What the hot ones earned goes back, so that there is something to pay with. */
function paySalary(world: World, random: Random): Request {
  const [from, to] = [random.pick(world.of("hot")), random.pick(world.of("wallet"))];
  return request(from.id, to.id, BigInt(random.between(100, 1_000)), random);
}

function moveCash(world: World, random: Random): Request {
  const wallet = random.pick(world.of("wallet"));
  const [debit, credit] = random.chance(0.6) ? ["system:cash", wallet.id] : [wallet.id, "system:cash"];
  return request(debit, credit, amount(random), random);
}

/** A remote shard's system account is debited together with the payer. */
function payBonus(world: World, random: Random): Request {
  const plain = between(world, random);
  const [first] = plain.postings;
  if (first === undefined) throw new Error("a transfer between shards without a posting");
  const bonus = { ...first, debitAccountId: "system:bonus", amountMinorUnits: BigInt(random.between(1, 20)) };
  return { ...plain, postings: [first, bonus], type: "bonus" };
}

function moveLarge(world: World, random: Random): Request {
  const from = random.pick(world.of("rich"));
  const to = other(random, world.of("rich"), from);
  const amountMinorUnits = BigInt(random.between(1, 2_000_000_000)) * 1_000_000_007n;
  return request(from.id, to.id, amountMinorUnits, random);
}

/** Takes most of the room that a full account has left, or makes room again. */
function fill(world: World, random: Random): Request {
  const full = random.pick(world.of("full"));
  const rich = random.pick(world.of("rich"));
  const part = BigInt(random.between(1, Number(FULL_ROOM_MINOR_UNITS)));
  return random.chance(0.6) ? request(rich.id, full.id, part, random) : request(full.id, rich.id, part, random);
}

/** Refused, by the payer's shard or by another. */
function hopeless(world: World, random: Random): Request {
  const payer = random.pick(world.of("wallet"));
  const shard = random.pick(shardNumbers);
  const [yen] = world.of("wallet", shard, "JPY");
  const [full] = world.of("full", shard);
  const unknown = newId("acct", parseId(newOwner(shard))?.bucket ?? 0);
  return random.pick([
    () => request(payer.id, yen?.id ?? "", 1n, random),
    () => request(payer.id, unknown, 1n, random),
    () => request(payer.id, full?.id ?? "", FULL_ROOM_MINOR_UNITS * 10n, random),
    () => request(payer.id, random.pick(world.of("hot")).id, 1_000_000_000n, random),
  ])();
}

const MAX_HOLD_SECONDS = 20;
const REST_CHANCE = 0.3;

/** To any shard; some run out while others are captured. */
function placeHold(world: World, random: Random): Plan {
  const payer = random.pick(world.of("wallet"));
  const payee = other(random, [...world.of("wallet"), ...world.of("hot")], payer);
  const expireTime = random.chance(0.4)
    ? new Date(Date.now() + 1_000 * random.between(2, MAX_HOLD_SECONDS))
    : undefined;
  const request = {
    debitAccountId: payer.id,
    creditAccountId: payee.id,
    amountMinorUnits: amount(random),
    currency: "EUR",
    expireTime,
  };
  return plan({ rpc: "createHold", request });
}

/** In parts, or the rest; some exceed what is left, some come too late. */
function capture(world: World, random: Random): Plan | undefined {
  if (world.holds.length === 0) return undefined;
  const { holdId, debitAccountId, creditAccountId, currency } = random.pick(world.holds);
  const amountMinorUnits = random.chance(REST_CHANCE) ? undefined : BigInt(random.between(1, 120));
  const request = { holdId, amountMinorUnits, final: random.chance(0.2), type: "", memo: "", metadata: {} };
  const expected = { debitAccountId, creditAccountId, currency };
  const expects = [amountMinorUnits === undefined ? expected : { ...expected, amountMinorUnits }];
  return plan({ rpc: "captureHold", request, expects });
}

function voidOne(world: World, random: Random): Plan | undefined {
  if (world.holds.length === 0) return undefined;
  return plan({ rpc: "voidHold", request: { holdId: random.pick(world.holds).holdId } });
}

/** A part of one posting, or all that is left of the only one; now and then more than that. */
function reverse(world: World, random: Random): Plan | undefined {
  if (world.transfers.length === 0) return undefined;
  const { transferId, postings } = random.pick(world.transfers);
  const index = random.between(0, postings.length - 1);
  const posting = postings[index];
  if (posting === undefined) return undefined;
  const all = postings.length === 1 && random.chance(REST_CHANCE);
  const most = posting.amountMinorUnits < 10_000n ? Number(posting.amountMinorUnits) + 1 : 10_000;
  const amountMinorUnits = BigInt(random.between(1, most));
  const request = {
    transferId,
    postings: all ? [] : [{ index, amountMinorUnits }],
    type: "",
    memo: "",
    metadata: {},
  };
  const back = { debitAccountId: posting.creditAccountId, creditAccountId: posting.debitAccountId };
  const expected = { ...back, currency: posting.currency };
  return plan({ rpc: "reverseTransfer", request, expects: [all ? expected : { ...expected, amountMinorUnits }] });
}

/** For any payer, or for one. */
function quote(world: World, random: Random): Plan {
  const [sell, buy] = random.chance(0.5) ? ["EUR", "JPY"] : ["JPY", "EUR"];
  const value = BigInt(random.between(1, 300));
  const request = {
    sellCurrency: sell,
    buyCurrency: buy,
    amount: random.chance(0.7)
      ? ({ $case: "sellMinorUnits", value } as const)
      : ({ $case: "buyMinorUnits", value } as const),
    debitAccountId: random.chance(0.3) ? random.pick(world.of("wallet", undefined, sell)).id : "",
  };
  return plan({ rpc: "createQuote", request });
}

/** By anybody, so that a quote is wanted by several, and its currencies do not always fit. */
function convert(world: World, random: Random): Plan | undefined {
  if (world.quotes.length === 0) return undefined;
  const [sell, buy] = random.chance(0.5) ? ["EUR", "JPY"] : ["JPY", "EUR"];
  const [payer, payee] = [
    random.pick(world.of("wallet", undefined, sell)),
    random.pick(world.of("wallet", undefined, buy)),
  ];
  const request = {
    quoteId: random.pick(world.quotes),
    debitAccountId: payer.id,
    creditAccountId: payee.id,
    memo: "",
    metadata: {},
  };
  const expects = [
    { debitAccountId: payer.id, creditAccountId: "system:fx_position", currency: sell },
    { debitAccountId: "system:fx_position", creditAccountId: payee.id, currency: buy },
  ];
  return plan({ rpc: "createConversion", request, expects });
}

/** For a moment, while others go on using the account. */
function freeze(world: World, random: Random): Plan {
  const accountId = random.pick([...world.of("wallet"), ...world.of("hot")]).id;
  const request = { accountId, reason: "torture" };
  const thaw: Plan = { ...plan({ rpc: "unfreezeAccount", request }), insists: true };
  return { ...plan({ rpc: "freezeAccount", request }), insists: true, next: thaw };
}

function other(random: Random, accounts: readonly TortureAccount[], not: TortureAccount): TortureAccount {
  return random.pick(accounts.filter(({ id }) => id !== not.id));
}
