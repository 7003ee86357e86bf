import fc from "fast-check";
import { MAX_MINOR_UNITS } from "#lib/money.ts";
import {
  Account_Kind,
  Account_Status,
  CaptureHoldRequest,
  CreateAccountRequest,
  CreateConversionRequest,
  CreateHoldRequest,
  CreateQuoteRequest,
  CreateTransferRequest,
  Hold_State,
  type Rate,
  ReverseTransferRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Command as KeyedCommand, Model, ModelAccount, ModelQuote, ModelTransfer } from "#tests/model.ts";
import { sharedPayers } from "#tests/model-reversal.ts";

/**
 * Steps of a run, as fast-check makes and shrinks them: plain data that names accounts, holds and earlier commands by
 * number. What they mean is decided when it is their turn, against the model as it is then (`toCommand`), so that a shorter
 * run is still a sensible one.
 */
export type Step =
  | { do: "open"; owner: number | "nobody"; currency: string; floor: Floor; reference: string }
  | { do: "transfer"; postings: PostingStep[]; at: number | "now" | "future"; key: number | "new"; memo: string }
  | { do: "batch"; shard: number; items: BatchItem[] }
  | { do: "freeze" | "unfreeze" | "close"; account: Pick }
  | { do: "hold"; posting: PostingStep; days: number | "default" }
  | { do: "capture"; hold: Chosen; amount: "rest" | Amount; final: boolean }
  | { do: "void"; hold: Chosen }
  | { do: "reverse"; transfer: Chosen; parts: "everything" | PartStep[]; key: number | "new" }
  | { do: "rates"; rates: RateStep[] }
  | {
      do: "quote";
      pair: [string, string];
      fixed: "sell" | "buy" | "none";
      minorUnits: bigint;
      payer: number | "anybody";
    }
  | { do: "convert"; quote: Chosen; debit: Pick; credit: Pick; anyCurrency: boolean }
  | { do: "repeat"; command: number; change: boolean }
  | { do: "read"; pageSize: number };

type Floor = "none" | "unbounded" | bigint;
/** A number below what there is, by remainder; or one that nobody has. */
type Chosen = number | "unknown";
type Pick = { account: number } | { name: string } | { systemAccount: number } | { odd: "unknown" | "malformed" };
/** Relative ones are seen from the debit account (`percent`, `available`) or from the credit account (`room` up to the largest balance). */
type Amount = { minorUnits: bigint } | { percent: bigint } | { available: bigint } | { room: bigint };

/** So much of what is left of a posting; beyond a hundred percent, one minor unit more than that. */
interface PartStep {
  index: number;
  percent: number;
}
interface RateStep {
  base: string;
  quote: string;
  rate: string;
  spreadBps: number;
  /** How long ago it was the market's; below zero, how soon it will be. */
  ageMinutes: number;
}

interface PostingStep {
  debit: Pick;
  credit: Pick;
  amount: Amount;
  /** Undefined: that of the debit account, or else of the credit account. */
  currency: string | undefined;
  /** Otherwise the accounts are chosen among those of one currency. */
  anyCurrency: boolean;
}
type BatchItem =
  | { again: number }
  | { againGroup: number }
  /** Items of one letter that stand side by side are a group. */
  | { posting: PostingStep; noKey: boolean; group: "" | "a" | "b" };

const CURRENCIES = ["CLP", "HUF", "OMR"];
const OWNERS_PER_SHARD = 2;
const MOST_POSTINGS = 4;
const SYSTEM_NAMES = ["cash", "fees"];

const currency = fc.constantFrom(...CURRENCIES);
const index = fc.nat({ max: 40 });
const account: fc.Arbitrary<Pick> = fc.record({ account: index });
const systemName: fc.Arbitrary<Pick> = fc.record({ name: fc.constantFrom(...SYSTEM_NAMES) });
const side: fc.Arbitrary<Pick> = fc.oneof(
  { weight: 30, arbitrary: account },
  { weight: 4, arbitrary: systemName },
  { weight: 3, arbitrary: fc.record({ systemAccount: index }) },
  { weight: 1, arbitrary: fc.record({ odd: fc.constantFrom("unknown" as const, "malformed" as const) }) },
);
const likelyAccount: fc.Arbitrary<Pick> = fc.oneof(
  { weight: 20, arbitrary: account },
  fc.record({ odd: fc.constantFrom("unknown" as const, "malformed" as const) }),
);
const amount: fc.Arbitrary<Amount> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ percent: fc.bigInt(1n, 60n) }) },
  { weight: 8, arbitrary: fc.record({ minorUnits: fc.bigInt(1n, 300n) }) },
  { weight: 8, arbitrary: fc.record({ available: fc.bigInt(-1n, 1n) }) },
  { weight: 1, arbitrary: fc.record({ room: fc.bigInt(-1n, 1n) }) },
  { weight: 1, arbitrary: fc.record({ minorUnits: fc.constantFrom(0n, -1n, 10n ** 12n, MAX_MINOR_UNITS) }) },
);
const rarely = (weight: number) =>
  fc.oneof({ weight: 100 - weight, arbitrary: fc.constant(false) }, { weight, arbitrary: fc.constant(true) });
const posting: fc.Arbitrary<PostingStep> = fc.record({
  debit: side,
  credit: side,
  amount,
  currency: fc.oneof({ weight: 30, arbitrary: fc.constant(undefined) }, fc.constantFrom("CLP", "OMR", "BGN", "XXX")),
  anyCurrency: rarely(4),
});
const funding: fc.Arbitrary<PostingStep> = fc.record({
  debit: systemName,
  credit: account,
  amount: fc.oneof(
    { weight: 16, arbitrary: fc.record({ minorUnits: fc.bigInt(1n, 1_000n) }) },
    fc.record({ room: fc.bigInt(-1n, 1n) }),
  ),
  currency: fc.constant(undefined),
  anyCurrency: fc.constant(false),
});
const floor: fc.Arbitrary<Floor> = fc.oneof(
  { weight: 12, arbitrary: fc.constant("none" as const) },
  { weight: 3, arbitrary: fc.constantFrom(-500n, -1n, 0n) },
  { weight: 2, arbitrary: fc.constant("unbounded" as const) },
  fc.constant(1n),
);
const open: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("open" as const),
  owner: fc.oneof({ weight: 12, arbitrary: fc.nat({ max: 11 }) }, fc.constant("nobody" as const)),
  currency: fc.oneof({ weight: 20, arbitrary: currency }, fc.constantFrom("BGN", "XXX")),
  floor,
  reference: fc.oneof(
    { weight: 5, arbitrary: fc.constant("") },
    { weight: 5, arbitrary: fc.constantFrom("a", "b") },
    fc.constant("system:a"),
  ),
});
const transferOf = (postings: fc.Arbitrary<PostingStep[]>): fc.Arbitrary<Step> =>
  fc.record({
    do: fc.constant("transfer" as const),
    postings,
    at: fc.oneof(
      { weight: 16, arbitrary: fc.constant("now" as const) },
      { weight: 3, arbitrary: fc.integer({ min: -3, max: 3 }) },
      fc.constant("future" as const),
    ),
    key: fc.oneof({ weight: 20, arbitrary: fc.constant("new" as const) }, index),
    memo: fc.constantFrom("", "rent"),
  });
const transfer = transferOf(
  fc.oneof(
    { weight: 8, arbitrary: fc.tuple(posting) },
    { weight: 6, arbitrary: fc.tuple(funding) },
    { weight: 5, arbitrary: fc.array(fc.oneof(posting, funding), { minLength: 2, maxLength: MOST_POSTINGS }) },
  ),
);
const group = fc.constantFrom("" as const, "" as const, "a" as const, "a" as const, "a" as const, "b" as const);
const batch: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("batch" as const),
  shard: fc.nat({ max: 2 }),
  items: fc.array(
    fc.oneof(
      { weight: 12, arbitrary: fc.record({ posting: fc.oneof(posting, funding), noKey: rarely(3), group }) },
      fc.record({ again: index }),
      fc.record({ againGroup: index }),
    ),
    { minLength: 1, maxLength: 7 },
  ),
});
const status: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom("freeze" as const, "unfreeze" as const, "close" as const),
  account: side,
});
const chosen: fc.Arbitrary<Chosen> = fc.oneof({ weight: 20, arbitrary: index }, fc.constant("unknown" as const));
const hold: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("hold" as const),
  posting: fc.oneof({ weight: 3, arbitrary: posting }),
  days: fc.oneof(
    { weight: 8, arbitrary: fc.constant("default" as const) },
    { weight: 2, arbitrary: fc.constantFrom(1, 364) },
    fc.constantFrom(-1, 366),
  ),
});
const capture: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("capture" as const),
  hold: chosen,
  amount: fc.oneof(
    fc.constant("rest" as const),
    { weight: 2, arbitrary: amount },
    { weight: 2, arbitrary: fc.record({ available: fc.constantFrom(0n, 1n) }) },
  ),
  final: fc.boolean(),
});
const reverse: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("reverse" as const),
  transfer: chosen,
  parts: fc.oneof(
    { weight: 2, arbitrary: fc.constant("everything" as const) },
    {
      weight: 3,
      arbitrary: fc.array(
        fc.record({
          index: fc.oneof({ weight: 30, arbitrary: fc.nat({ max: 3 }) }, fc.constantFrom(-1, 99)),
          percent: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 100 }) }, fc.constantFrom(0, 100, 101)),
        }),
        { minLength: 1, maxLength: 3 },
      ),
    },
  ),
  key: fc.oneof({ weight: 20, arbitrary: fc.constant("new" as const) }, index),
});
const RATES = [
  { base: "CLP", quote: "HUF", rate: "0.37" },
  { base: "OMR", quote: "HUF", rate: "950.25" },
  { base: "OMR", quote: "CLP", rate: "2400.123456789" },
];
const PAIRS = RATES.flatMap(({ base, quote: other }): [string, string][] => [
  [base, other],
  [other, base],
]);
const rate: fc.Arbitrary<RateStep> = fc
  .record({
    market: fc.oneof(
      { weight: 60, arbitrary: fc.constantFrom(...RATES) },
      fc.constantFrom(
        { base: "HUF", quote: "CLP", rate: "3" },
        { base: "HUF", quote: "OMR", rate: "0.000000000000000001" },
        { base: "CLP", quote: "OMR", rate: "999999999999999999" },
        { base: "CLP", quote: "CLP", rate: "1" },
        { base: "CLP", quote: "HUF", rate: "-1" },
      ),
    ),
    spreadBps: fc.oneof({ weight: 40, arbitrary: fc.constantFrom(0, 30, 5_000) }, fc.constantFrom(-1, 5_001)),
    ageMinutes: fc.oneof(
      { weight: 30, arbitrary: fc.constantFrom(0, 1, 60, 23 * 60) },
      fc.constantFrom(25 * 60, 48 * 60, -0.5, -2),
    ),
  })
  .map(({ market, ...rest }) => ({ ...market, ...rest }));
const rates: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("rates" as const),
  rates: fc.array(rate, { minLength: 1, maxLength: 3 }),
});
const quote: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("quote" as const),
  pair: fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(...PAIRS) },
    fc.constantFrom<[string, string]>(["CLP", "CLP"], ["CLP", "XXX"]),
  ),
  fixed: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom("sell" as const, "buy" as const) },
    fc.constant("none" as const),
  ),
  minorUnits: fc.oneof(
    { weight: 9, arbitrary: fc.bigInt(1n, 400n) },
    fc.constantFrom(0n, 1n, 10n ** 15n, MAX_MINOR_UNITS),
  ),
  payer: fc.oneof({ weight: 3, arbitrary: fc.constant("anybody" as const) }, index),
});
const convert: fc.Arbitrary<Step> = fc.record({
  do: fc.constant("convert" as const),
  quote: chosen,
  debit: likelyAccount,
  credit: likelyAccount,
  anyCurrency: rarely(10),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: reverse },
  { weight: 3, arbitrary: rates },
  { weight: 6, arbitrary: quote },
  { weight: 7, arbitrary: convert },
  { weight: 4, arbitrary: open },
  { weight: 40, arbitrary: transfer },
  { weight: 5, arbitrary: batch },
  { weight: 9, arbitrary: status },
  { weight: 9, arbitrary: hold },
  { weight: 9, arbitrary: capture },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("void" as const), hold: chosen }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("repeat" as const), command: index, change: rarely(40) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("read" as const), pageSize: fc.integer({ min: 1, max: 7 }) }) },
);

/** Runs of up to so many steps; the first ones open accounts and put money on them. */
export function stepsOf(maxSteps: number): fc.Arbitrary<Step[]> {
  const opening = fc.array(open, { minLength: 4, maxLength: 10 });
  const first = fc.array(transferOf(fc.tuple(funding)), { minLength: 4, maxLength: 10 });
  const rest = fc.array(step, { minLength: Math.floor(maxSteps / 4), maxLength: maxSteps - 20, size: "max" });
  const market: Step = { do: "rates", rates: RATES.map((one) => ({ ...one, spreadBps: 50, ageMinutes: 120 })) };
  const start = fc.oneof({ weight: 4, arbitrary: fc.constant([market]) }, fc.constant([]));
  return fc.tuple(opening, first, start, rest).map((parts) => parts.flat());
}

export type Command = KeyedCommand | { readonly method: "reverseTransfer"; readonly request: ReverseTransferRequest };

/** Where a run stands: what the model says, and the names that are the run's own. */
export interface World {
  readonly model: Model;
  /** Part of the names of its system accounts and references. */
  readonly run: string;
  /** Two per shard, each in a bucket of its own. */
  readonly owners: readonly string[];
  readonly newKey: () => string;
  /** Every command of the run that was made alone, and every item of a batch. */
  readonly history: Command[];
  /** The groups of its batches. */
  readonly groups: CreateTransferRequest[][];
}

export const OWNER_COUNT_PER_SHARD = OWNERS_PER_SHARD;
const FIRST_PAST_MS = Date.UTC(2020, 1, 29);
const DAY_MS = 24 * 60 * 60 * 1_000;
/** Of what goes to another shard: an account for transit takes it all, and everybody shares that one. */
const MOST_BETWEEN_SHARDS = 10n ** 10n;

/** The command that a step stands for now; undefined when there is nothing yet that it could be about. */
export function toCommand(world: World, given: Exclude<Step, { do: "batch" | "read" }>): Command | undefined {
  const { model } = world;
  switch (given.do) {
    case "open":
      return { method: "createAccount", request: openRequest(world, given) };
    case "transfer": {
      const postings = given.postings.map((one) => toPosting(world, one));
      if (postings.some((one) => one === undefined)) return undefined;
      const request = CreateTransferRequest.fromPartial({
        postings: postings.filter((one) => one !== undefined),
        memo: given.memo,
        idempotencyKey: keyOf(world, given.key),
        ...(given.at === "now" ? {} : { effectiveTime: new Date(timeOf(given.at)) }),
      });
      return { method: "createTransfer", request };
    }
    case "freeze":
    case "unfreeze":
    case "close": {
      const accountId = nameOf(world, given.account, likelyFor(given.do, model.accounts));
      if (accountId === undefined) return undefined;
      const request = { accountId, reason: "", idempotencyKey: world.newKey() };
      return { method: `${given.do}Account`, request };
    }
    case "hold": {
      const one = toPosting(world, given.posting);
      if (one === undefined) return undefined;
      const request = CreateHoldRequest.fromPartial({
        ...one,
        idempotencyKey: world.newKey(),
        ...(given.days === "default" ? {} : { expireTime: new Date(Date.now() + given.days * DAY_MS) }),
      });
      return { method: "createHold", request };
    }
    case "capture": {
      const holds = [...model.holds.values()];
      const known = given.hold === "unknown" ? undefined : pickOpen(holds, given.hold);
      if (known === undefined && given.hold !== "unknown") return undefined;
      const holdId = known?.id ?? unknownId(world, "hold");
      const remaining = known === undefined ? 0n : known.amountMinorUnits - known.capturedMinorUnits;
      const request = CaptureHoldRequest.fromPartial({ holdId, final: given.final, idempotencyKey: world.newKey() });
      if (given.amount === "rest") return { method: "captureHold", request };
      return {
        method: "captureHold",
        request: { ...request, amountMinorUnits: amountOf(given.amount, remaining, 0n) },
      };
    }
    case "void": {
      const holds = [...model.holds.values()];
      const known = given.hold === "unknown" ? undefined : pickOpen(holds, given.hold);
      if (known === undefined && given.hold !== "unknown") return undefined;
      const request = { holdId: known?.id ?? unknownId(world, "hold"), idempotencyKey: world.newKey() };
      return { method: "voidHold", request };
    }
    case "reverse": {
      const transfers = [...model.transfers.values()];
      const original = given.transfer === "unknown" ? undefined : pick(transfers, given.transfer);
      if (original === undefined && given.transfer !== "unknown") return undefined;
      const request = ReverseTransferRequest.fromPartial({
        transferId: original?.id ?? unknownId(world, "xfer"),
        postings: original === undefined ? [] : partsOf(original, given.parts),
        idempotencyKey: keyOf(world, given.key),
      });
      return { method: "reverseTransfer", request };
    }
    case "rates": {
      const list = given.rates.map(
        ({ ageMinutes, ...one }): Rate => ({ ...one, asOf: new Date(Date.now() - ageMinutes * 60_000) }),
      );
      return { method: "setRates", request: { rates: list, idempotencyKey: world.newKey() } };
    }
    case "quote": {
      const { fixed, minorUnits, payer } = given;
      const [sell, buy] = given.pair;
      const one = payer === "anybody" ? undefined : pick(model.accounts, payer);
      const request = CreateQuoteRequest.fromPartial({
        sellCurrency: sell,
        buyCurrency: buy,
        debitAccountId: one?.id ?? "",
        idempotencyKey: world.newKey(),
      });
      if (fixed === "none") return { method: "createQuote", request };
      const amountCase = fixed === "sell" ? ("sellMinorUnits" as const) : ("buyMinorUnits" as const);
      return { method: "createQuote", request: { ...request, amount: { $case: amountCase, value: minorUnits } } };
    }
    case "convert":
      return toConversion(world, given);
    case "repeat": {
      const earlier = pick(world.history, given.command);
      return earlier === undefined || !given.change ? earlier : changed(earlier);
    }
  }
}

/**
 * The items of a batch. Debits are on one shard, whose order is fixed, and no two items credit one account elsewhere: between
 * shards there is no order, and the model has to know one.
 */
export function toBatch(
  world: World,
  { shard, items }: Extract<Step, { do: "batch" }>,
): Extract<Command, { method: "createTransfer" }>["request"][] {
  const { model } = world;
  const here = 1 + (shard % Math.max(...model.map.ranges.map((range) => range.shard)));
  const local = [...model.accounts, ...model.systems.values()].filter((one) => one.shard === here);
  const payers = model.accounts.filter((one) => one.shard === here);
  const touched = new Set<string>();
  const keys = new Set<string>();
  const requests: CreateTransferRequest[] = [];
  const planned = items.flatMap((item) => {
    if ("againGroup" in item) return pick(world.groups, item.againGroup) ?? [];
    return ("again" in item ? againOf(world, item.again) : itemOf(world, item, payers)) ?? [];
  });
  for (const request of planned.filter(isPlain)) {
    const { group: letter } = request;
    // What does not stand beside the others of its group is one of its own.
    const isApart =
      letter !== "" && requests.at(-1)?.group !== letter && requests.some((other) => other.group === letter);
    requests.push(isApart ? { ...request, group: `${letter}${requests.length}` } : request);
  }
  return requests;

  /** Whether the model can know what becomes of it beside those that are there already. */
  function isPlain({ postings: [posting, ...others], idempotencyKey }: CreateTransferRequest): boolean {
    if (posting === undefined || others.length > 0) return false;
    if (keys.has(idempotencyKey)) return false;
    const { debitAccountId: debit, creditAccountId: credit } = posting;
    const payer = findById(model, debit.startsWith("system:") ? credit : debit);
    if (payer !== undefined && !local.includes(payer)) return false;
    const elsewhere = [debit, credit].filter((id) => {
      const known = findById(model, id);
      return known !== undefined && !local.includes(known);
    });
    if (elsewhere.some((id) => touched.has(id))) return false;
    for (const id of elsewhere) touched.add(id);
    keys.add(idempotencyKey);
    return true;
  }
}

function itemOf(
  world: World,
  { posting: given, noKey, group: letter }: Extract<BatchItem, { posting: PostingStep }>,
  local: readonly ModelAccount[],
): CreateTransferRequest | undefined {
  const one = toPosting(world, given, local);
  if (one === undefined) return undefined;
  return CreateTransferRequest.fromPartial({
    postings: [one],
    idempotencyKey: noKey ? "" : world.newKey(),
    group: letter,
  });
}

function againOf({ history }: World, which: number): CreateTransferRequest | undefined {
  const earlier = history.flatMap(({ method, request }) => (method === "createTransfer" ? [request] : []));
  // A member of a group is repeated with all of it.
  return pick(earlier, which);
}

function openRequest(
  { owners, run, newKey }: World,
  { owner, currency: code, floor: least, reference }: Extract<Step, { do: "open" }>,
): CreateAccountRequest {
  const request = CreateAccountRequest.fromPartial({
    ownerId: owner === "nobody" ? "" : (pick(owners, owner) ?? ""),
    currency: code,
    kind: Account_Kind.WALLET,
    reference: reference === "" || reference.startsWith("system:") ? reference : `${run} ${reference}`,
    metadata: { run },
    idempotencyKey: newKey(),
  });
  if (least === "none") return request;
  if (least === "unbounded") return { ...request, floor: { $case: "unbounded", value: true } };
  return { ...request, floor: { $case: "floorMinorUnits", value: least } };
}

/** A posting between accounts that are there; debits are of `payers`, all accounts unless said otherwise. */
function toPosting(world: World, given: PostingStep, payers: readonly ModelAccount[] = world.model.accounts) {
  const { model } = world;
  const debitAccountId = nameOf(world, given.debit, payers);
  const debit = findById(model, debitAccountId);
  const likely = debit === undefined || given.anyCurrency ? undefined : debit.currency;
  const isPayerNamed = debit === undefined && payers.length < model.accounts.length;
  const credits = (isPayerNamed ? payers : model.accounts).filter(
    (one) => one !== debit && one.currency === (likely ?? one.currency),
  );
  const creditAccountId = nameOf(world, given.credit, credits.length === 0 ? model.accounts : credits);
  if (debitAccountId === undefined || creditAccountId === undefined) return undefined;
  const credit = findById(model, creditAccountId);
  const code = given.currency ?? debit?.currency ?? credit?.currency ?? "CLP";
  const available =
    debit === undefined ? 100n : debit.postedMinorUnits - debit.heldMinorUnits - (debit.floorMinorUnits ?? 0n);
  const isBetween = debit !== undefined && credit !== undefined && debit.shard !== credit.shard;
  const wanted = amountOf(given.amount, available, credit?.postedMinorUnits ?? 0n);
  const amountMinorUnits = isBetween ? atMost(MOST_BETWEEN_SHARDS, wanted) : wanted;
  return { debitAccountId, creditAccountId, amountMinorUnits, currency: code };
}

function amountOf(given: Amount, available: bigint, creditPosted: bigint): bigint {
  if ("minorUnits" in given) return given.minorUnits;
  if ("percent" in given) return available > 0n ? 1n + (available * given.percent) / 100n : given.percent;
  return atMost(
    MAX_MINOR_UNITS,
    "available" in given ? available + given.available : MAX_MINOR_UNITS - creditPosted + given.room,
  );
}

function atMost(most: bigint, wanted: bigint): bigint {
  return wanted > most ? most : wanted;
}

/** The id or name that a posting gives; undefined when there is no account yet. */
function nameOf(world: World, given: Pick, accounts: readonly ModelAccount[]): string | undefined {
  if ("name" in given) return `system:${world.run}_${given.name}`;
  if ("odd" in given) return given.odd === "malformed" ? "acct_1" : unknownId(world, "acct");
  if ("account" in given) return pick(accounts, given.account)?.id;
  // Those of the house are of all runs.
  const systems = [...world.model.systems.values()].filter(
    ({ id, reference }) => id !== undefined && !reference.startsWith("system:fx_"),
  );
  return (pick(systems, given.systemAccount) ?? pick(accounts, given.systemAccount))?.id;
}

/** The accounts for which a change of status makes sense, when there are any. */
function likelyFor(
  change: "freeze" | "unfreeze" | "close",
  accounts: readonly ModelAccount[],
): readonly ModelAccount[] {
  const likely = accounts.filter(({ status: now, postedMinorUnits }) =>
    change === "unfreeze" ? now === Account_Status.FROZEN : postedMinorUnits === 0n,
  );
  return change === "freeze" || likely.length === 0 ? accounts : likely;
}

/** An earlier command's key: in another scope it is another command. */
function keyOf({ history, newKey }: World, key: number | "new"): string {
  return key === "new" ? newKey() : (pick(history, key)?.request.idempotencyKey ?? "");
}

/**
 * What of the transfer is taken back. Its buckets are refunded side by side, in no order that the contract fixes: the model can
 * tell it from the answers only when they have nothing in common but payers on one shard, so otherwise it is one bucket's part.
 */
function partsOf(
  original: ModelTransfer,
  parts: "everything" | PartStep[],
): { index: number; amountMinorUnits: bigint }[] {
  const { legs, refundedMinorUnits } = original;
  const left = legs.map(({ amountMinorUnits }, index) => amountMinorUnits - (refundedMinorUnits[index] ?? 0n));
  const buckets = new Set(legs.map(({ credit }) => credit.bucket));
  const payers = sharedPayers(original);
  const isOrderKnown =
    new Set(payers.map(({ shard }) => shard)).size <= 1 &&
    !legs.some(({ debit }) => legs.some(({ credit }) => credit === debit));
  const isFree = buckets.size === 1 || isOrderKnown;
  if (parts === "everything") {
    if (isFree) return [];
    return legs.flatMap(({ credit }, index) =>
      credit.bucket === legs[0]?.credit.bucket ? [{ index, amountMinorUnits: left[index] || 1n }] : [],
    );
  }
  const seen = new Set<number>();
  const asked = parts.flatMap(({ index: which, percent }) => {
    const index = which >= 0 && which < MOST_POSTINGS ? which % legs.length : which;
    const remaining = left[index] || 1n;
    if (seen.has(index) && percent < 100) return [];
    seen.add(index);
    return [
      {
        index,
        amountMinorUnits:
          percent > 100 ? atMost(MAX_MINOR_UNITS, remaining + 1n) : (remaining * BigInt(percent) + 99n) / 100n,
      },
    ];
  });
  return isFree ? asked : asked.slice(0, 1);
}

function toConversion(
  world: World,
  given: Extract<Step, { do: "convert" }>,
): Extract<Command, { method: "createConversion" }> | undefined {
  const { model, newKey } = world;
  const unused = [...model.quotes.values()].filter(({ transferId }) => transferId === "");
  const quotes = given.quote === "unknown" || given.quote % 4 === 0 ? [...model.quotes.values()] : unused;
  const known = given.quote === "unknown" ? undefined : pick(quotes, given.quote);
  if (known === undefined && given.quote !== "unknown") return undefined;
  if (known !== undefined && !isSafe(known)) return undefined;
  const { sellCurrency, buyCurrency, sellMinorUnits = 0n, debitAccountId: promised = "" } = known ?? {};
  const { accounts } = model;
  const ofCurrency = (code?: string) =>
    accounts.filter((one) => given.anyCurrency || one.currency === (code ?? one.currency));
  const payers = ofCurrency(sellCurrency);
  const solvent = payers.filter((one) => one.postedMinorUnits - one.heldMinorUnits >= sellMinorUnits);
  const debitAccountId =
    promised === "" || given.anyCurrency ? nameOf(world, given.debit, solvent.length > 0 ? solvent : payers) : promised;
  const creditAccountId = nameOf(world, given.credit, ofCurrency(buyCurrency));
  if (debitAccountId === undefined || creditAccountId === undefined) return undefined;
  const request = CreateConversionRequest.fromPartial({
    quoteId: known?.id ?? unknownId(world, "quot"),
    debitAccountId,
    creditAccountId,
    idempotencyKey: newKey(),
  });
  return { method: "createConversion", request };
}

/** Not just expiring, and not of an amount that would fill the accounts of the house that all runs share. */
function isSafe({ createTimeMs, sellMinorUnits, buyMinorUnits }: ModelQuote): boolean {
  const ageMs = Date.now() - createTimeMs;
  return (
    (ageMs < 25_000 || ageMs > 35_000) && [sellMinorUnits, buyMinorUnits].every((one) => one <= MOST_BETWEEN_SHARDS)
  );
}

/** Well formed, of a bucket of the run, and nobody's. */
function unknownId({ owners, newKey }: World, prefix: "acct" | "hold" | "xfer" | "quot"): string {
  const [owner = ""] = owners;
  // The last characters of a new id are random.
  return `${prefix}_${owner.slice(-26, -8)}${newKey().slice(-8)}`;
}

function findById({ accounts, systems }: Model, id: string | undefined): ModelAccount | undefined {
  return id === undefined ? undefined : [...accounts, ...systems.values()].find((one) => one.id === id);
}

function timeOf(at: number | "future"): number {
  // Steps of a millisecond and of a day, so that equal, earlier and later times meet.
  return at === "future" ? Date.now() + DAY_MS : FIRST_PAST_MS + Math.trunc(at / 2) * DAY_MS + (at % 2);
}

/** The same command with another body, under the same key. */
function changed({ method, request }: Command): Command | undefined {
  switch (method) {
    case "createAccount":
      return { method, request: { ...request, floor: { $case: "floorMinorUnits", value: -77n } } };
    case "freezeAccount":
    case "unfreezeAccount":
    case "closeAccount":
      return { method, request: { ...request, reason: `${request.reason}!` } };
    case "createTransfer":
      return { method, request: { ...request, memo: `${request.memo}!` } };
    case "createHold":
      return { method, request: { ...request, amountMinorUnits: request.amountMinorUnits - 1n } };
    case "captureHold":
      return { method, request: { ...request, final: !request.final } };
    case "reverseTransfer":
    case "createConversion":
      return { method, request: { ...request, memo: `${request.memo}!` } } as Command;
    case "setRates":
      return { method, request: { ...request, rates: request.rates.map((one) => ({ ...one, spreadBps: 7 })) } };
    case "createQuote":
      return { method, request: { ...request, amount: { $case: "sellMinorUnits", value: 77n } } };
    case "voidHold":
      return undefined;
  }
}

/** Most often one that can still change. */
function pickOpen<Held extends { state: Hold_State }>(holds: readonly Held[], which: number): Held | undefined {
  const open = holds.filter(({ state }) => state === Hold_State.OPEN);
  return pick(which % 4 === 0 || open.length === 0 ? holds : open, which);
}

function pick<T>(list: readonly T[], which: number): T | undefined {
  return list[which % list.length];
}
