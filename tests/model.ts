import assert from "node:assert/strict";
import { idToUuid, parseId, timeMsOfUuid } from "#lib/ids.ts";
import { MAX_MINOR_UNITS, MIN_MINOR_UNITS } from "#lib/money.ts";
import { type BucketMap, shardOfBucket, systemBucketOf } from "#lib/shards.ts";
import {
  type Account,
  Account_Kind,
  Account_Status,
  type Balance,
  type CaptureHoldRequest,
  type CreateAccountRequest,
  type CreateConversionRequest,
  type CreateHoldRequest,
  type CreateQuoteRequest,
  type CreateTransferRequest,
  type Entry,
  type FreezeAccountRequest,
  type Hold,
  Hold_State,
  type Quote,
  Quote_State,
  type Rate,
  type SetRatesRequest,
  type SetRatesResponse,
  type Transfer,
  Transfer_State,
  type VoidHoldRequest,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { type Exchange, exchange } from "#tests/model-exchange.ts";

/**
 * What the ledger promises, as plain data and functions, written from its contract (proto/ledgermesh/ledger/v1/ledger.proto,
 * docs/errors.md) and not from its code: one command after the other, no database, no shards that fail. `judge` holds an
 * answer of the real ledger against it.
 *
 * Where several rules refuse one command, the contract does not say which of them is told: any of them will do. Fixed is
 * only that a malformed request is refused before anything is looked up, and that a known key answers before any rule.
 *
 * Ids and times are the ledger's to choose; the model learns them from its answers and insists on them from then on.
 */

export interface Model {
  readonly map: BucketMap;
  /** In the order of their opening; system accounts are apart. */
  readonly accounts: ModelAccount[];
  /** By shard, name and currency. */
  readonly systems: Map<string, ModelAccount>;
  readonly transfers: Map<string, ModelTransfer>;
  readonly holds: Map<string, ModelHold>;
  readonly quotes: Map<string, ModelQuote>;
  /** By their two currencies, in alphabetical order: the one that counts. */
  readonly rates: Map<string, Rate>;
  readonly keys: Map<string, Remembered>;
}

export interface ModelAccount {
  /** Undefined: a system account that no answer has named yet. */
  id: string | undefined;
  /** Whether runs before this one have left something on it that is not known yet: the first answer tells. */
  hasUnknownPast: boolean;
  readonly ownerId: string;
  readonly bucket: number;
  readonly shard: number;
  readonly currency: string;
  readonly kind: Account_Kind;
  readonly floorMinorUnits: bigint | undefined;
  readonly reference: string;
  readonly metadata: Readonly<Record<string, string>>;
  status: Account_Status;
  postedMinorUnits: bigint;
  heldMinorUnits: bigint;
  version: bigint;
  /** Of its entries; never falls. */
  latestEffectiveMs: number;
  readonly entries: ModelEntry[];
}

interface ModelEntry {
  readonly transfer: ModelTransfer;
  readonly amountMinorUnits: bigint;
  readonly balanceAfterMinorUnits: bigint;
  readonly counterparty: ModelAccount;
}

export interface ModelTransfer {
  readonly id: string;
  readonly shard: number;
  readonly legs: readonly KnownLeg[];
  readonly type: string;
  readonly memo: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly balances: readonly Balance[];
  readonly postTimeMs: number;
  readonly effectiveTimeMs: number;
  /** Whether the caller gave it. */
  readonly isBackdated: boolean;
  readonly links: Links;
  /** Of each posting, what was taken back since. */
  readonly refundedMinorUnits: bigint[];
}

interface Links {
  readonly holdId: string;
  readonly quoteId: string;
  readonly reversesTransferId: string;
  readonly reversesPostingIndexes: number[];
}
export const NO_LINKS: Links = { holdId: "", quoteId: "", reversesTransferId: "", reversesPostingIndexes: [] };

export interface ModelHold {
  readonly id: string;
  readonly debit: ModelAccount;
  readonly credit: ModelAccount;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
  readonly expireTimeMs: number;
  readonly createTimeMs: number;
  capturedMinorUnits: bigint;
  state: Hold_State;
  version: bigint;
}

export interface ModelQuote extends Exchange {
  readonly id: string;
  readonly sellCurrency: string;
  readonly buyCurrency: string;
  readonly debitAccountId: string;
  readonly createTimeMs: number;
  transferId: string;
}

/** What a key stands for. */
export interface Remembered {
  readonly body: string;
  /** Of several reasons, it is one of these. */
  readonly outcome: { readonly refused: readonly string[] } | { readonly made: Made };
}

/** What a command made or changed: enough to say what its answer is, now and when it is repeated. */
type Made =
  | { readonly kind: "opened"; readonly account: ModelAccount }
  | { readonly kind: "status"; readonly account: ModelAccount }
  | { readonly kind: "transfer"; readonly transfer: ModelTransfer }
  | { readonly kind: "rates"; readonly rates: readonly (() => Rate)[] }
  | { readonly kind: "quote"; readonly quote: ModelQuote }
  | { readonly kind: "hold"; readonly hold: ModelHold; readonly isNew: boolean };

/** One posting with its accounts; an id that stands for no account has none. */
interface Leg {
  readonly debit: ModelAccount | undefined;
  readonly credit: ModelAccount | undefined;
  readonly amountMinorUnits: bigint;
  readonly currency: string;
}
export type KnownLeg = Leg & { readonly debit: ModelAccount; readonly credit: ModelAccount };

/** Commands by the name of their method. */
export interface Requests {
  createAccount: CreateAccountRequest;
  freezeAccount: FreezeAccountRequest;
  unfreezeAccount: FreezeAccountRequest;
  closeAccount: FreezeAccountRequest;
  createTransfer: CreateTransferRequest;
  createHold: CreateHoldRequest;
  captureHold: CaptureHoldRequest;
  voidHold: VoidHoldRequest;
  setRates: SetRatesRequest;
  createQuote: CreateQuoteRequest;
  createConversion: CreateConversionRequest;
}
interface Answers {
  createAccount: Account;
  freezeAccount: Account;
  unfreezeAccount: Account;
  closeAccount: Account;
  createTransfer: Transfer;
  createHold: Hold;
  captureHold: Transfer;
  voidHold: Hold;
  setRates: SetRatesResponse;
  createQuote: Quote;
  createConversion: Transfer;
}
export type Method = keyof Requests;
export type Command = { readonly [M in Method]: { readonly method: M; readonly request: Requests[M] } }[Method];
export type Observed =
  | { readonly kind: "answer"; readonly answer: Answers[Method]; readonly replayed: boolean | undefined }
  | {
      readonly kind: "refused";
      readonly code: number;
      readonly reason: string;
      readonly resourceName: string | undefined;
      readonly replayed: boolean | undefined;
    };

interface Rule<M extends Method> {
  /** Wrong by itself, whatever the ledger holds. */
  readonly isMalformed: (model: Model, request: Requests[M]) => boolean;
  /** Where the key belongs. */
  readonly scope: (model: Model, request: Requests[M]) => string;
  /** Every reason for which it has to be refused. */
  readonly refusals: (model: Model, request: Requests[M]) => string[];
  /** Changes the model; takes from the answer what only the ledger can know. */
  readonly carryOut: (model: Model, request: Requests[M], answer: Answers[M]) => Made;
}

const CODES: Readonly<Record<string, number>> = {
  MALFORMED_REQUEST: 3,
  IDEMPOTENCY_KEY_REQUIRED: 3,
  ACCOUNT_NOT_FOUND: 5,
  TRANSFER_NOT_FOUND: 5,
  POSTING_NOT_FOUND: 5,
  QUOTE_NOT_FOUND: 5,
  HOLD_NOT_FOUND: 5,
  IDEMPOTENCY_KEY_REUSED: 6,
};
export const FAILED_PRECONDITION = 9;
const { ACTIVE, FROZEN, PENDING, CLOSED } = Account_Status;
const NOT_ACTIVE: Readonly<Partial<Record<Account_Status, string>>> = {
  [FROZEN]: "ACCOUNT_FROZEN",
  [PENDING]: "ACCOUNT_PENDING",
  [CLOSED]: "ACCOUNT_CLOSED",
};
/** ISO 4217: how many digits stand behind the point. */
const DIGITS: Readonly<Record<string, number>> = { CLP: 0, HUF: 2, OMR: 3, BGN: 2 };
const ISO_CURRENCIES = Object.keys(DIGITS);
const WITHDRAWN_CURRENCIES = ["BGN"];
const QUOTE_LIFETIME_MS = 30_000;
const RATE_PATTERN = /^\d{1,18}(\.\d{1,18})?$/;
const DAY_MS = 24 * 60 * 60 * 1_000;
/** The clocks of the test and of Postgres: both of this machine. */
const CLOCK_SLACK_MS = 60_000;

/** A ledger in which nothing has happened yet. */
export function emptyModel(map: BucketMap): Model {
  const [systems, transfers, holds] = [new Map(), new Map(), new Map()];
  return { map, accounts: [], systems, transfers, holds, quotes: new Map(), rates: new Map(), keys: new Map() };
}

/** Holds an answer against the contract, and changes the model as the command changed the ledger. Throws an AssertionError. */
export function judge(model: Model, command: Command, observed: Observed): void {
  judgeBy(RULES[command.method] as Rule<Method>, model, command, observed);
}

function judgeBy(rule: Rule<Method>, model: Model, { method, request }: Command, observed: Observed): void {
  const key = [method, rule.scope(model, request), request.idempotencyKey].join(" ");
  const body = toText({ ...request, idempotencyKey: "" });
  const known = model.keys.get(key);
  if (request.idempotencyKey === "") assertRefused(observed, ["IDEMPOTENCY_KEY_REQUIRED"], false);
  else if (rule.isMalformed(model, request)) assertRefused(observed, ["MALFORMED_REQUEST"], false);
  else if (known === undefined) {
    const outcome = judgeNew(rule, model, request, observed);
    if (outcome !== undefined) model.keys.set(key, { body, outcome });
  } else if (known.body === body) judgeReplay(known, observed);
  else judgeReuse(known, observed);
}

/** A command under a new key; answers what the key stands for from now on, if anything. */
function judgeNew(
  rule: Rule<Method>,
  model: Model,
  request: Requests[Method],
  observed: Observed,
): Remembered["outcome"] | undefined {
  const why = rule.refusals(model, request);
  if (why.length > 0) {
    const { code, reason } = assertRefused(observed, why, false);
    return code === FAILED_PRECONDITION ? { refused: [reason] } : undefined;
  }
  const answer = assertAnswered(observed, false);
  const made = rule.carryOut(model, request, answer);
  assert.deepEqual(comparable(answer), answerOf(made, false));
  return { made };
}

/** The same body: the first answer again. */
export function judgeReplay({ outcome }: Remembered, observed: Observed): void {
  if ("refused" in outcome) assertRefused(observed, outcome.refused, true);
  else assert.deepEqual(comparable(assertAnswered(observed, true)), answerOf(outcome.made, true));
}

/** Another body: a refusal that names what the first one made. */
export function judgeReuse({ outcome }: Remembered, observed: Observed): void {
  const { resourceName } = assertRefused(observed, ["IDEMPOTENCY_KEY_REUSED"], false);
  assert.equal(resourceName, "made" in outcome ? resourceOf(outcome.made) : undefined, "resource_name");
}

type Refused = Extract<Observed, { kind: "refused" }>;

export function assertRefused(observed: Observed, reasons: readonly string[], replayed: boolean): Refused {
  assert.ok(observed.kind === "refused", `it was done, and should be refused with ${reasons.join(" or ")}`);
  assert.ok(reasons.includes(observed.reason), `refused with ${observed.reason}, not with ${reasons.join(" or ")}`);
  assert.equal(observed.code, CODES[observed.reason] ?? FAILED_PRECONDITION, `status of ${observed.reason}`);
  assert.equal(observed.replayed ?? replayed, replayed, "idempotent-replayed");
  return observed;
}

export function assertAnswered(observed: Observed, replayed: boolean): Answers[Method] {
  assert.ok(observed.kind === "answer", `refused with ${observed.kind === "refused" ? observed.reason : ""}, not done`);
  assert.equal(observed.replayed ?? replayed, replayed, "idempotent-replayed");
  return observed.answer;
}

/** What a key's refused second body is told: nothing for what makes nothing. */
function resourceOf(made: Made): string | undefined {
  switch (made.kind) {
    case "opened":
      return made.account.id;
    case "transfer":
      return made.transfer.id;
    case "hold":
      return made.isNew ? made.hold.id : undefined;
    case "quote":
      return made.quote.id;
    case "status":
    case "rates":
      return undefined;
  }
}

export function answerOf(made: Made, replayed: boolean): unknown {
  switch (made.kind) {
    case "opened": {
      if (!replayed) return accountAnswer(made.account);
      // The first answer's balances, and the state of now.
      const first = { postedMinorUnits: 0n, heldMinorUnits: 0n, version: 1n };
      return accountAnswer({ ...made.account, ...first });
    }
    case "status":
      return accountAnswer(made.account);
    case "transfer":
      return transferAnswer(made.transfer);
    case "hold":
      return holdAnswer(made.hold);
    case "quote":
      return quoteAnswer(made.quote);
    case "rates":
      return { rates: made.rates.map((now) => now()) };
  }
}

/** An answer in a form that deepEqual can compare: balances in the order of their accounts, plain objects only. */
export function comparable(answer: Answers[Method]): unknown {
  if (!("balances" in answer)) return "metadata" in answer ? { ...answer, metadata: { ...answer.metadata } } : answer;
  return { ...answer, metadata: { ...answer.metadata }, balances: [...answer.balances].sort(byAccount) };
}

function byAccount(a: Balance, b: Balance): number {
  return a.accountId < b.accountId ? -1 : 1;
}

/** The account as GetAccount has to answer it. */
export function accountAnswer(account: ModelAccount): Account {
  const { ownerId, currency, kind, status, postedMinorUnits, heldMinorUnits, floorMinorUnits, version } = account;
  const accountId = account.id ?? "";
  return {
    accountId,
    ownerId,
    currency,
    kind,
    status,
    postedMinorUnits,
    heldMinorUnits,
    availableMinorUnits: postedMinorUnits - heldMinorUnits,
    floorMinorUnits,
    version,
    reference: account.reference,
    metadata: { ...account.metadata },
    createTime: new Date(timeMsOfUuid(idToUuid(accountId))),
  };
}

/** The transfer as GetTransfer has to answer it. */
export function transferAnswer(transfer: ModelTransfer): unknown {
  return {
    transferId: transfer.id,
    state: isTakenBack(transfer) ? Transfer_State.REVERSED : Transfer_State.POSTED,
    type: transfer.type,
    memo: transfer.memo,
    metadata: { ...transfer.metadata },
    postings: transfer.legs.map(({ debit, credit, amountMinorUnits, currency }) => ({
      debitAccountId: debit.id,
      creditAccountId: credit.id,
      amountMinorUnits,
      currency,
    })),
    balances: transfer.balances,
    postTime: new Date(transfer.postTimeMs),
    effectiveTime: new Date(transfer.effectiveTimeMs),
    pendingAccountIds: [],
    ...transfer.links,
  };
}

/** Whether nothing is left of any posting. */
export function isTakenBack({ legs, refundedMinorUnits }: ModelTransfer): boolean {
  return legs.every(({ amountMinorUnits }, index) => refundedMinorUnits[index] === amountMinorUnits);
}

/** The quote as GetQuote has to answer it now. */
export function quoteAnswer(quote: ModelQuote): unknown {
  const { id, rate, sellCurrency, buyCurrency, debitAccountId, transferId, createTimeMs } = quote;
  const expireTimeMs = createTimeMs + QUOTE_LIFETIME_MS;
  const unused = isExpired(quote) ? Quote_State.EXPIRED : Quote_State.OPEN;
  return {
    quoteId: id,
    rate,
    sellCurrency,
    buyCurrency,
    sellMinorUnits: quote.sellMinorUnits,
    buyMinorUnits: quote.buyMinorUnits,
    residueMinorUnits: quote.residueMinorUnits,
    expireTime: new Date(expireTimeMs),
    state: transferId === "" ? unused : Quote_State.USED,
    debitAccountId,
    transferId,
    createTime: new Date(createTimeMs),
  };
}

function isExpired({ createTimeMs }: ModelQuote): boolean {
  return Date.now() >= createTimeMs + QUOTE_LIFETIME_MS;
}

/** The hold as GetHold has to answer it. */
export function holdAnswer(hold: ModelHold): unknown {
  return {
    holdId: hold.id,
    debitAccountId: hold.debit.id,
    creditAccountId: hold.credit.id,
    amountMinorUnits: hold.amountMinorUnits,
    capturedMinorUnits: hold.capturedMinorUnits,
    remainingMinorUnits: hold.state === Hold_State.OPEN ? hold.amountMinorUnits - hold.capturedMinorUnits : 0n,
    currency: hold.currency,
    state: hold.state,
    expireTime: new Date(hold.expireTimeMs),
    createTime: new Date(hold.createTimeMs),
    version: hold.version,
  };
}

/** All pages of an account's entries, newest first, against the model. Throws an AssertionError. */
export function judgeEntries(account: ModelAccount, entries: readonly Entry[]): void {
  const before = (entries.at(-1)?.sequence ?? 1n) - 1n;
  if (account.kind !== Account_Kind.SYSTEM) assert.equal(before, 0n, "the first entry's sequence is 1");
  const expected = account.entries.map((entry, index) => ({
    sequence: before + BigInt(index + 1),
    transferId: entry.transfer.id,
    amountMinorUnits: entry.amountMinorUnits,
    balanceAfterMinorUnits: entry.balanceAfterMinorUnits,
    currency: account.currency,
    type: entry.transfer.type,
    memo: entry.transfer.memo,
    counterpartyAccountId: entry.counterparty.id,
  }));
  assert.deepEqual(
    entries.map(({ postTime: _, effectiveTime: __, ...entry }) => entry),
    expected.reverse(),
    `entries of ${account.id}`,
  );
  for (const [index, { transfer }] of account.entries.entries()) {
    const { postTime, effectiveTime } = entries[entries.length - 1 - index] as Entry;
    const [postMs, effectiveMs] = [postTime?.getTime() ?? 0, effectiveTime?.getTime()];
    // Of an account on another shard than the payer's, it is written a moment later, by another clock.
    if (account.shard === transfer.shard) assert.equal(postMs, transfer.postTimeMs, "post_time");
    assert.equal(effectiveMs, transfer.isBackdated ? transfer.effectiveTimeMs : postMs, "effective_time");
    const earlier = entries[entries.length - index];
    assert.ok(postMs >= (earlier?.postTime?.getTime() ?? 0), "post_time never falls within an account");
  }
}

/** The account of an id, if it stands for one. */
export function findAccount(model: Model, id: string): ModelAccount | undefined {
  return [...model.accounts, ...model.systems.values()].find((account) => account.id === id);
}

/** What the body of a command is compared by. */
export function toText(request: object): string {
  return JSON.stringify(request, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
}

function changeStatus(
  change: "freeze" | "unfreeze" | "close",
): Rule<"freezeAccount" | "unfreezeAccount" | "closeAccount"> {
  return {
    isMalformed: (_, { accountId }) => parseId(accountId, "acct") === undefined,
    scope: (_, { accountId }) => String(parseId(accountId)?.bucket),
    refusals: (model, { accountId }) => {
      const account = findAccount(model, accountId);
      if (account === undefined) return ["ACCOUNT_NOT_FOUND"];
      const { status } = account;
      if (change === "freeze") return status === ACTIVE ? [] : reasons([NOT_ACTIVE[status]]);
      if (change === "unfreeze") return status === FROZEN ? [] : reasons([NOT_ACTIVE[status] ?? "ACCOUNT_ACTIVE"]);
      return reasons([
        status === CLOSED && "ACCOUNT_CLOSED",
        account.reference.startsWith("system:") && "SYSTEM_ACCOUNT_STAYS_OPEN",
        account.postedMinorUnits !== 0n && "ACCOUNT_NOT_EMPTY",
        account.heldMinorUnits !== 0n && "ACCOUNT_HAS_HOLDS",
      ]);
    },
    carryOut: (model, { accountId }) => {
      const account = findAccount(model, accountId) as ModelAccount;
      account.status = { freeze: FROZEN, unfreeze: ACTIVE, close: CLOSED }[change];
      account.version += 1n;
      return { kind: "status", account };
    },
  };
}

export function reasons(list: readonly (string | false | undefined)[]): string[] {
  return [...new Set(list.filter((reason) => typeof reason === "string"))];
}

const RULES: { readonly [M in Method]: Rule<M> } = {
  createAccount: {
    isMalformed: (_, { currency, floor, reference }) =>
      !ISO_CURRENCIES.includes(currency) ||
      WITHDRAWN_CURRENCIES.includes(currency) ||
      (floor?.$case === "floorMinorUnits" && floor.value > 0n) ||
      reference.startsWith("system:"),
    // What has no owner is placed by its name: another name is another place, but for one chance in 3,840.
    scope: (_, { ownerId, reference, idempotencyKey }) =>
      ownerId === "" ? `unowned ${reference || idempotencyKey}` : String(parseId(ownerId)?.bucket),
    refusals: (model, { ownerId, reference }) => {
      const isTaken = model.accounts.some((other) => other.ownerId === ownerId && other.reference === reference);
      return reasons([reference !== "" && isTaken && "REFERENCE_ALREADY_USED"]);
    },
    carryOut: (model, request, { accountId }) => {
      const bucket = parseId(accountId, "acct")?.bucket as number;
      if (request.ownerId !== "") assert.equal(bucket, parseId(request.ownerId)?.bucket, "the account's bucket");
      const { ownerId, currency, kind, floor, reference, metadata } = request;
      const isUnbounded = floor?.$case === "unbounded" && floor.value;
      const floorMinorUnits = floor?.$case === "floorMinorUnits" ? floor.value : 0n;
      const account: ModelAccount = {
        ...newAccount(bucket, shardOfBucket(model.map, bucket), currency),
        id: accountId,
        ownerId,
        kind,
        floorMinorUnits: isUnbounded ? undefined : floorMinorUnits,
        reference,
        metadata,
      };
      model.accounts.push(account);
      return { kind: "opened", account };
    },
  },

  freezeAccount: changeStatus("freeze"),
  unfreezeAccount: changeStatus("unfreeze"),
  closeAccount: changeStatus("close"),

  createTransfer: {
    isMalformed: isMalformedTransfer,
    scope: scopeOfTransfer,
    refusals: (model, request) => {
      const legs = request.postings.map((posting) => resolve(model, posting));
      const { effectiveTime } = request;
      return [...refusalsOfTransfer(legs, shardOfTransfer(model, request)), ...refusalsOfTime(legs, effectiveTime)];
    },
    carryOut: (model, request, answer) => {
      const legs = request.postings.map((posting) => resolve(model, posting)) as KnownLeg[];
      const type = request.type || "transfer";
      const { memo, metadata, effectiveTime } = request;
      const transfer = enter(model, legs, { type, memo, metadata, effectiveTime, links: NO_LINKS }, answer);
      return { kind: "transfer", transfer };
    },
  },

  createHold: {
    isMalformed: (model, { debitAccountId, creditAccountId, amountMinorUnits, currency }) =>
      parseId(debitAccountId, "acct") === undefined ||
      !isAccountName(creditAccountId) ||
      isSame(resolve(model, { debitAccountId, creditAccountId, amountMinorUnits, currency })) ||
      debitAccountId === creditAccountId ||
      amountMinorUnits <= 0n ||
      !ISO_CURRENCIES.includes(currency),
    scope: (_, { debitAccountId }) => String(parseId(debitAccountId)?.bucket),
    refusals: (model, { expireTime, ...posting }) => {
      const leg = resolve(model, posting);
      const aheadMs = expireTime === undefined ? 1 : expireTime.getTime() - Date.now();
      return reasons([
        ...refusalsOfAccounts(leg),
        aheadMs <= 0 && "EXPIRE_TIME_IN_PAST",
        aheadMs > 365 * DAY_MS && "EXPIRE_TIME_TOO_FAR",
        ...refusalsOfHolding(leg),
      ]);
    },
    carryOut: (model, request, answer) => {
      const { debit, credit, amountMinorUnits, currency } = resolve(model, request) as KnownLeg;
      learnId(credit, answer.creditAccountId);
      const createTimeMs = learnTime(answer.createTime);
      const expireTimeMs = request.expireTime?.getTime() ?? createTimeMs + 7 * DAY_MS;
      const hold: ModelHold = {
        id: answer.holdId,
        debit,
        credit,
        amountMinorUnits,
        currency,
        expireTimeMs,
        createTimeMs,
        capturedMinorUnits: 0n,
        state: Hold_State.OPEN,
        version: 1n,
      };
      assert.equal(parseId(hold.id, "hold")?.bucket, debit.bucket, "the hold's bucket");
      debit.heldMinorUnits += amountMinorUnits;
      debit.version += 1n;
      model.holds.set(hold.id, hold);
      return { kind: "hold", hold, isNew: true };
    },
  },

  captureHold: {
    isMalformed: (_, { holdId, amountMinorUnits }) =>
      parseId(holdId, "hold") === undefined || (amountMinorUnits !== undefined && amountMinorUnits <= 0n),
    scope: (_, { holdId }) => String(parseId(holdId)?.bucket),
    refusals: (model, { holdId, amountMinorUnits, final }) => {
      const hold = model.holds.get(holdId);
      if (hold === undefined) return ["HOLD_NOT_FOUND"];
      const remaining = remainingOf(hold);
      const taken = amountMinorUnits ?? remaining;
      const { debit, credit, currency } = hold;
      // What is let go of is there for the posting.
      const released = final ? remaining : taken;
      const payer = { ...debit, heldMinorUnits: debit.heldMinorUnits - released };
      return reasons([
        HOLD_CLOSED[hold.state],
        taken > remaining && hold.state === Hold_State.OPEN && "CAPTURE_EXCEEDS_HOLD",
        ...refusalsOfTransfer([{ debit: payer, credit, amountMinorUnits: taken, currency }], debit.shard),
      ]);
    },
    carryOut: (model, request, answer) => {
      const hold = model.holds.get(request.holdId) as ModelHold;
      const { debit, credit, currency } = hold;
      const remaining = remainingOf(hold);
      const amountMinorUnits = request.amountMinorUnits ?? remaining;
      const { memo, metadata, holdId } = request;
      debit.heldMinorUnits -= request.final ? remaining : amountMinorUnits;
      hold.capturedMinorUnits += amountMinorUnits;
      hold.version += 1n;
      if (request.final || amountMinorUnits === remaining) hold.state = Hold_State.CAPTURED;
      const links = { ...NO_LINKS, holdId };
      const texts = { type: request.type || "capture", memo, metadata, effectiveTime: undefined, links };
      return {
        kind: "transfer",
        transfer: enter(model, [{ debit, credit, amountMinorUnits, currency }], texts, answer),
      };
    },
  },

  voidHold: {
    isMalformed: (_, { holdId }) => parseId(holdId, "hold") === undefined,
    scope: (_, { holdId }) => String(parseId(holdId)?.bucket),
    refusals: (model, { holdId }) => {
      const hold = model.holds.get(holdId);
      return hold === undefined ? ["HOLD_NOT_FOUND"] : reasons([HOLD_CLOSED[hold.state]]);
    },
    carryOut: (model, { holdId }) => {
      const hold = model.holds.get(holdId) as ModelHold;
      hold.debit.heldMinorUnits -= remainingOf(hold);
      hold.debit.version += 1n;
      hold.state = Hold_State.VOIDED;
      hold.version += 1n;
      return { kind: "hold", hold, isNew: false };
    },
  },

  setRates: {
    isMalformed: (_, { rates }) =>
      rates.length === 0 ||
      new Set(rates.map(pairOf)).size < rates.length ||
      rates.some(
        ({ base, quote, rate, spreadBps, asOf }) =>
          base === quote ||
          ![base, quote].every((code) => ISO_CURRENCIES.includes(code)) ||
          !RATE_PATTERN.test(rate) ||
          Number(rate) === 0 ||
          spreadBps < 0 ||
          spreadBps > 5_000 ||
          asOf === undefined,
      ),
    scope: () => OF_THE_CALLER,
    refusals: (_, { rates }) =>
      reasons([rates.some(({ asOf }) => (asOf?.getTime() ?? 0) > Date.now() + 60_000) && "RATE_IN_FUTURE"]),
    carryOut: (model, { rates }) => {
      for (const rate of rates) {
        const known = model.rates.get(pairOf(rate));
        if (known === undefined || timeMsOf(known.asOf) < timeMsOf(rate.asOf)) model.rates.set(pairOf(rate), rate);
      }
      return { kind: "rates", rates: rates.map((rate) => () => model.rates.get(pairOf(rate)) as Rate) };
    },
  },

  createQuote: {
    isMalformed: (_, { sellCurrency, buyCurrency, amount, debitAccountId }) =>
      sellCurrency === buyCurrency ||
      ![sellCurrency, buyCurrency].every((code) => ISO_CURRENCIES.includes(code)) ||
      amount === undefined ||
      amount.value <= 0n ||
      (debitAccountId !== "" && parseId(debitAccountId, "acct") === undefined),
    scope: (_, { debitAccountId }) =>
      debitAccountId === "" ? OF_THE_CALLER : String(parseId(debitAccountId, "acct")?.bucket),
    refusals: (model, request) => {
      const terms = termsOf(model, request);
      return typeof terms === "string" ? [terms] : [];
    },
    carryOut: (model, request, { quoteId, createTime }) => {
      const { sellCurrency, buyCurrency, debitAccountId } = request;
      const terms = termsOf(model, request) as Exchange;
      const createTimeMs = learnTime(createTime);
      const quote = { ...terms, id: quoteId, sellCurrency, buyCurrency, debitAccountId, createTimeMs, transferId: "" };
      if (debitAccountId !== "") assert.equal(parseId(quoteId)?.bucket, parseId(debitAccountId)?.bucket, "its bucket");
      model.quotes.set(quoteId, quote);
      return { kind: "quote", quote };
    },
  },

  createConversion: {
    isMalformed: (_, { quoteId, debitAccountId, creditAccountId }) =>
      parseId(quoteId, "quot") === undefined ||
      [debitAccountId, creditAccountId].some((id) => parseId(id, "acct") === undefined) ||
      debitAccountId === creditAccountId,
    scope: (_, { debitAccountId }) => String(parseId(debitAccountId, "acct")?.bucket),
    refusals: (model, request) => {
      const quote = model.quotes.get(request.quoteId);
      if (quote === undefined) return ["QUOTE_NOT_FOUND"];
      const { legs, shard } = conversionLegs(model, quote, request);
      return reasons([
        quote.transferId !== "" && "QUOTE_USED",
        quote.transferId === "" && isExpired(quote) && "QUOTE_EXPIRED",
        !["", request.debitAccountId].includes(quote.debitAccountId) && "QUOTE_FOR_ANOTHER_ACCOUNT",
        ...refusalsOfTransfer(legs, shard),
      ]);
    },
    carryOut: (model, request, answer) => {
      const quote = model.quotes.get(request.quoteId) as ModelQuote;
      const legs = conversionLegs(model, quote, request).legs as KnownLeg[];
      const { memo, metadata } = request;
      const links = { ...NO_LINKS, quoteId: quote.id };
      const texts = { type: "conversion", memo, metadata, effectiveTime: undefined, links };
      const transfer = enter(model, legs, texts, answer);
      quote.transferId = transfer.id;
      return { kind: "transfer", transfer };
    },
  },
};

export function isMalformedTransfer(model: Model, { postings, group }: CreateTransferRequest): boolean {
  return (
    group !== "" ||
    postings.length === 0 ||
    postings.some(
      (posting) =>
        [posting.debitAccountId, posting.creditAccountId].some((id) => !isAccountName(id)) ||
        (isSystemName(posting.debitAccountId) && isSystemName(posting.creditAccountId)) ||
        posting.debitAccountId === posting.creditAccountId ||
        posting.amountMinorUnits <= 0n ||
        !ISO_CURRENCIES.includes(posting.currency) ||
        // A name and the id that it stands for.
        isSame(resolve(model, posting)),
    )
  );
}

/** The bucket of the first debit account. */
export function scopeOfTransfer(model: Model, request: CreateTransferRequest): string {
  const { debitAccountId = "" } = request.postings[0] ?? {};
  const isSystem = isSystemName(debitAccountId);
  const bucket = isSystem
    ? systemBucketOf(model.map, shardOfTransfer(model, request))
    : parseId(debitAccountId)?.bucket;
  return String(bucket);
}

/** The shard that decides. */
export function shardOfTransfer(model: Model, { postings: [first] }: CreateTransferRequest): number {
  return shardOfName(model, first?.debitAccountId ?? "", first?.creditAccountId ?? "");
}

/** How a key of rates, or of a quote for anybody, belongs to its caller alone. */
const OF_THE_CALLER = "of the caller";

/** The postings of a conversion: through the house's accounts on the payer's and the payee's shard. */
function conversionLegs(model: Model, quote: ModelQuote, { debitAccountId, creditAccountId }: CreateConversionRequest) {
  const { sellCurrency, buyCurrency, sellMinorUnits, buyMinorUnits, residueMinorUnits } = quote;
  const payerShard = shardOfName(model, debitAccountId, "");
  const payeeShard = shardOfName(model, creditAccountId, "");
  const houseOf = (shard: number, name: string, currency: string) => {
    const isNew = !model.systems.has(systemKey(shard, name, currency));
    const account = systemAccount(model, shard, name, currency);
    if (isNew) account.hasUnknownPast = true;
    return account;
  };
  const sold = houseOf(payerShard, "system:fx_position", sellCurrency);
  const bought = houseOf(payeeShard, "system:fx_position", buyCurrency);
  const [payer, payee] = [findAccount(model, debitAccountId), findAccount(model, creditAccountId)];
  const legs: Leg[] = [
    { debit: payer, credit: sold, amountMinorUnits: sellMinorUnits, currency: sellCurrency },
    { debit: bought, credit: payee, amountMinorUnits: buyMinorUnits, currency: buyCurrency },
  ];
  if (residueMinorUnits > 0n) {
    const credit = houseOf(payeeShard, "system:fx_residue", buyCurrency);
    legs.push({ debit: bought, credit, amountMinorUnits: residueMinorUnits, currency: buyCurrency });
  }
  return { legs, shard: payerShard };
}

const HOLD_CLOSED: Readonly<Partial<Record<Hold_State, string>>> = {
  [Hold_State.CAPTURED]: "HOLD_CAPTURED",
  [Hold_State.VOIDED]: "HOLD_VOIDED",
  [Hold_State.EXPIRED]: "HOLD_EXPIRED",
};

function remainingOf({ state, amountMinorUnits, capturedMinorUnits }: ModelHold): bigint {
  return state === Hold_State.OPEN ? amountMinorUnits - capturedMinorUnits : 0n;
}

function pairOf({ base, quote }: Pick<Rate, "base" | "quote">): string {
  return base < quote ? `${base} ${quote}` : `${quote} ${base}`;
}

function timeMsOf(time: Date | undefined): number {
  return time?.getTime() ?? 0;
}

/** What a quote of now says, or why there is none. */
function termsOf(model: Model, { sellCurrency, buyCurrency, amount }: CreateQuoteRequest): Exchange | string {
  const market = model.rates.get(pairOf({ base: sellCurrency, quote: buyCurrency }));
  if (market === undefined) return "RATE_UNKNOWN";
  if (timeMsOf(market.asOf) < Date.now() - DAY_MS) return "RATE_TOO_OLD";
  const value = amount?.value ?? 0n;
  const digits = { sell: DIGITS[sellCurrency] ?? 0, buy: DIGITS[buyCurrency] ?? 0 };
  return exchange(market, sellCurrency, digits, amount?.$case === "buyMinorUnits" ? { buy: value } : { sell: value });
}

function isSystemName(text: string): boolean {
  return /^system:[a-z][a-z0-9_]{0,55}$/.test(text) && text !== "system:transit";
}

function isAccountName(text: string): boolean {
  return isSystemName(text) || parseId(text, "acct") !== undefined;
}

function isSame({ debit, credit }: Leg): boolean {
  return debit !== undefined && debit === credit;
}

/** The shard of an account's id; of a `system:` name, that of the posting's other account. */
function shardOfName({ map }: Model, name: string, other: string): number {
  return shardOfBucket(map, parseId(isSystemName(name) ? other : name, "acct")?.bucket ?? 0);
}

/** The accounts of a posting; system accounts come into being when they are first named. */
export function resolve(
  model: Model,
  posting: { debitAccountId: string; creditAccountId: string; amountMinorUnits: bigint; currency: string },
): Leg {
  const { debitAccountId, creditAccountId, amountMinorUnits, currency } = posting;
  const account = (name: string, other: string) => {
    if (!isSystemName(name)) return findAccount(model, name);
    return isSystemName(other) ? undefined : systemAccount(model, shardOfName(model, name, other), name, currency);
  };
  const debit = account(debitAccountId, creditAccountId);
  return { debit, credit: account(creditAccountId, debitAccountId), amountMinorUnits, currency };
}

function systemAccount(model: Model, shard: number, reference: string, currency: string): ModelAccount {
  const name = systemKey(shard, reference, currency);
  const known = model.systems.get(name);
  if (known !== undefined) return known;
  const account: ModelAccount = {
    ...newAccount(systemBucketOf(model.map, shard), shard, currency),
    kind: Account_Kind.SYSTEM,
    floorMinorUnits: undefined,
    reference,
  };
  model.systems.set(name, account);
  return account;
}

function systemKey(shard: number, reference: string, currency: string): string {
  return `${shard} ${reference} ${currency}`;
}

function newAccount(bucket: number, shard: number, currency: string): ModelAccount {
  return {
    id: undefined,
    hasUnknownPast: false,
    ownerId: "",
    bucket,
    shard,
    currency,
    kind: Account_Kind.WALLET,
    floorMinorUnits: 0n,
    reference: "",
    metadata: {},
    status: ACTIVE,
    postedMinorUnits: 0n,
    heldMinorUnits: 0n,
    version: 1n,
    latestEffectiveMs: Number.NEGATIVE_INFINITY,
    entries: [],
  };
}

/** What the accounts of a posting refuse, whatever its amount. */
function refusalsOfAccounts({ debit, credit, currency }: Leg): string[] {
  return [debit, credit].flatMap((account) =>
    account === undefined
      ? ["ACCOUNT_NOT_FOUND"]
      : reasons([NOT_ACTIVE[account.status], account.currency !== currency && "CURRENCY_MISMATCH"]),
  );
}

export function refusalsOfTransfer(legs: readonly Leg[], shard: number): string[] {
  const limited = legs.flatMap(({ debit }) => (debit?.floorMinorUnits === undefined ? [] : [debit]));
  const buckets = new Set(limited.map(({ bucket }) => bucket));
  // The shard of the first debit decides, and only there is a floor known.
  const isElsewhere = limited.some((account) => account.shard !== shard);
  return reasons([
    ...legs.flatMap(refusalsOfAccounts),
    (buckets.size > 1 || isElsewhere) && "DEBITS_IN_SEVERAL_BUCKETS",
    ...refusalsOfAmounts(legs, shard),
  ]);
}

/**
 * Postings are made in their order, and each must leave floors and the int64 range respected. What refuses any of them may be
 * told: other shards are asked before the payer's. An account that is unknown refuses by itself.
 */
function refusalsOfAmounts(legs: readonly Leg[], shard: number): string[] {
  const available = new Map<ModelAccount, bigint>();
  const posted = new Map<ModelAccount, bigint>();
  // Elsewhere, room is kept for the sum of what is coming, and what is going is not counted against it.
  const coming = new Map<ModelAccount, bigint>();
  const add = (balances: typeof posted, account: ModelAccount, amount: bigint, before = account.postedMinorUnits) => {
    const after = (balances.get(account) ?? before) + amount;
    balances.set(account, after);
    return after;
  };
  const addAvailable = (account: ModelAccount, amount: bigint) =>
    add(available, account, amount, account.postedMinorUnits - account.heldMinorUnits);
  return legs.flatMap(({ debit, credit, amountMinorUnits }) => {
    const why: (string | false)[] = [];
    if (debit !== undefined) {
      const after = addAvailable(debit, -amountMinorUnits);
      add(posted, debit, -amountMinorUnits);
      why.push(debit.floorMinorUnits !== undefined && after < debit.floorMinorUnits && "INSUFFICIENT_FUNDS");
      why.push(after < MIN_MINOR_UNITS && "BALANCE_OVERFLOW");
    }
    if (credit !== undefined) {
      addAvailable(credit, amountMinorUnits);
      const most = [add(posted, credit, amountMinorUnits), add(coming, credit, amountMinorUnits)];
      const isElsewhere = credit.shard !== shard;
      why.push(
        most.some((after, index) => (index === 0 || isElsewhere) && after > MAX_MINOR_UNITS) && "BALANCE_OVERFLOW",
      );
    }
    return reasons(why);
  });
}

function refusalsOfHolding({ debit, amountMinorUnits }: Leg): (string | false)[] {
  if (debit === undefined) return [];
  const available = debit.postedMinorUnits - debit.heldMinorUnits - amountMinorUnits;
  return [
    debit.floorMinorUnits !== undefined && available < debit.floorMinorUnits && "INSUFFICIENT_FUNDS",
    available < MIN_MINOR_UNITS && "BALANCE_OVERFLOW",
    debit.heldMinorUnits + amountMinorUnits > MAX_MINOR_UNITS && "BALANCE_OVERFLOW",
  ];
}

function refusalsOfTime(legs: readonly Leg[], effectiveTime: Date | undefined): string[] {
  if (effectiveTime === undefined) return [];
  const timeMs = effectiveTime.getTime();
  const latestMs = legs
    .flatMap(({ debit, credit }) => [debit, credit])
    .map((account) => account?.latestEffectiveMs ?? 0);
  return reasons([
    timeMs > Date.now() && "EFFECTIVE_TIME_IN_FUTURE",
    latestMs.some((latest) => timeMs < latest) && "EFFECTIVE_TIME_NOT_MONOTONIC",
  ]);
}

/** Makes the postings: entries, balances, one version more of each account. `home` is where it is decided. */
export function enter(
  model: Model,
  legs: readonly KnownLeg[],
  texts: Pick<ModelTransfer, "type" | "memo" | "metadata" | "links"> & { effectiveTime: Date | undefined },
  answer: Transfer,
  home: Pick<ModelAccount, "bucket" | "shard"> = (legs as [KnownLeg])[0].debit,
): ModelTransfer {
  for (const [index, { debit, credit }] of legs.entries()) {
    learnId(debit, answer.postings[index]?.debitAccountId);
    learnId(credit, answer.postings[index]?.creditAccountId);
  }
  assert.equal(parseId(answer.transferId, "xfer")?.bucket, home.bucket, "the transfer's bucket");
  assert.ok(!model.transfers.has(answer.transferId), `${answer.transferId} was made before`);
  const touched = new Set(legs.flatMap(({ debit, credit }) => [debit, credit]));
  const postTimeMs = learnTime(answer.postTime);
  const { effectiveTime, ...rest } = texts;
  const balances: Balance[] = [];
  const transfer: ModelTransfer = {
    ...rest,
    id: answer.transferId,
    shard: home.shard,
    legs,
    balances,
    postTimeMs,
    effectiveTimeMs: effectiveTime?.getTime() ?? postTimeMs,
    isBackdated: effectiveTime !== undefined,
    refundedMinorUnits: legs.map(() => 0n),
  };
  for (const account of touched) if (account.hasUnknownPast) learnPast(account, legs, answer);
  for (const { debit, credit, amountMinorUnits } of legs) {
    addEntry(debit, transfer, -amountMinorUnits, credit);
    addEntry(credit, transfer, amountMinorUnits, debit);
  }
  for (const account of touched) {
    account.version += 1n;
    account.latestEffectiveMs = transfer.effectiveTimeMs;
    const { id, postedMinorUnits, heldMinorUnits, version } = account;
    const availableMinorUnits = postedMinorUnits - heldMinorUnits;
    balances.push({ accountId: id ?? "", postedMinorUnits, heldMinorUnits, availableMinorUnits, version });
  }
  balances.sort(byAccount);
  model.transfers.set(transfer.id, transfer);
  return transfer;
}

function addEntry(
  account: ModelAccount,
  transfer: ModelTransfer,
  amountMinorUnits: bigint,
  counterparty: ModelAccount,
): void {
  account.postedMinorUnits += amountMinorUnits;
  const balanceAfterMinorUnits = account.postedMinorUnits;
  account.entries.push({ transfer, amountMinorUnits, balanceAfterMinorUnits, counterparty });
}

/** A system account's id is told by the first answer that names it, and never changes. */
function learnId(account: ModelAccount, id: string | undefined): void {
  if (account.id === undefined) {
    const parsed = parseId(id ?? "", "acct");
    assert.equal(parsed?.bucket, account.bucket, `the bucket of ${account.reference}`);
    account.id = id;
  }
  assert.equal(id, account.id, `the account of ${account.reference}`);
}

/** What was on an account before the run. */
function learnPast(account: ModelAccount, legs: readonly KnownLeg[], { balances }: Transfer): void {
  const balance = balances.find(({ accountId }) => accountId === account.id);
  const moved = legs.reduce((sum, { debit, credit, amountMinorUnits }) => {
    if (debit === account) return sum - amountMinorUnits;
    return credit === account ? sum + amountMinorUnits : sum;
  }, 0n);
  account.postedMinorUnits = (balance?.postedMinorUnits ?? 0n) - moved;
  account.version = (balance?.version ?? 1n) - 1n;
  account.hasUnknownPast = false;
}

function learnTime(time: Date | undefined): number {
  const timeMs = time?.getTime() ?? 0;
  assert.ok(Math.abs(timeMs - Date.now()) < CLOCK_SLACK_MS, `the time ${time?.toISOString()} is not now`);
  return timeMs;
}
