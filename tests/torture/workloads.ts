import type { Random } from "#cli/random.ts";
import { parseId } from "#lib/ids.ts";
import type { CreateTransferRequest } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { newId, newOwner, shardNumbers, transferRequest } from "#tests/stack.ts";
import { FULL_ROOM_MINOR_UNITS, type TortureAccount, type World } from "#tests/torture/world.ts";

/** What the clients do, one row each. A row that comes later makes other loads of the same seeds. */

/** A command without its key. */
type Request = Omit<CreateTransferRequest, "idempotencyKey">;

export interface Plan {
  /** Several are one batch call. */
  readonly requests: readonly Request[];
  /** Sent through two ledgers at the same moment. */
  readonly twins?: boolean;
  /** Afterwards another body is sent under its key. */
  readonly reuse?: boolean;
}

export interface Workload {
  readonly name: string;
  /** How often, against the others. */
  readonly weight: number;
  readonly make: (world: World, random: Random) => Plan;
}

const MAX_SPREAD_POSTINGS = 5;
const MAX_BATCH_TRANSFERS = 30;

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
  { name: "batch", weight: 3, make: batch },
  { name: "twins", weight: 2, make: (world, random) => ({ ...one(any(world, random)), twins: true }) },
  { name: "reuse", weight: 1, make: (world, random) => ({ ...one(any(world, random)), reuse: true }) },
];

function one(request: Request): Plan {
  return { requests: [request] };
}

function any(world: World, random: Random): Request {
  return random.pick([within, between, between, spread, payHot, fill])(world, random);
}

function batch(world: World, random: Random): Plan {
  const count = random.between(2, MAX_BATCH_TRANSFERS);
  return { requests: Array.from({ length: count }, () => any(world, random)) };
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

function other(random: Random, accounts: readonly TortureAccount[], not: TortureAccount): TortureAccount {
  return random.pick(accounts.filter(({ id }) => id !== not.id));
}
