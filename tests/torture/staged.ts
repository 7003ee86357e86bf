import { type Random, seededRandom } from "#cli/random.ts";
import { pause } from "#lib/back-off.ts";
import { idToUuid } from "#lib/ids.ts";
import { shardNumbers, transferRequest } from "#tests/stack.ts";
import { type FaultContext, postgresOf } from "#tests/torture/faults.ts";
import type { Command, History } from "#tests/torture/history.ts";
import type { Clients } from "#tests/torture/load.ts";
import type { Unkeyed } from "#tests/torture/orders.ts";
import type { Report } from "#tests/torture/report.ts";
import type { LedgerClient } from "#tests/torture/send.ts";
import { shardOfId } from "#tests/torture/shard-of-id.ts";
import { ask, type Holder, hold, type Session } from "#tests/torture/superuser.ts";
import type { TortureAccount, World } from "#tests/torture/world.ts";

/**
 * Faults on purpose at a step of a protocol. A row that the step needs is held from outside, so that the step hangs in
 * Postgres; the fault is struck there; then the row is let go, and recovery has to do the rest:
 *
 *   held up -> (the process that waits is seen) -> struck -> let go
 *
 * The transfers of this are baits: of accounts that nobody else uses, so that the row holds up nothing but them. Their
 * clients repeat them as others do, and the history has them as it has any other.
 */
export interface StageContext extends FaultContext {
  readonly world: World;
  readonly history: History;
  readonly clients: Clients;
  /** The stack's own, and the further one. */
  readonly ledgers: readonly LedgerClient[];
}

/** A step that hangs. */
interface Hanging {
  /** The service that hangs there, and where. */
  readonly part: string;
  readonly shard: number;
  /** Its sessions on the shard. */
  readonly sessions: readonly Session[];
  readonly release: () => Promise<void>;
}

interface Step {
  readonly name: string;
  readonly role: "ledger" | "relay";
  /** What makes sense there, by name; anything if not given. */
  readonly strikes?: readonly string[];
  /** Brings the step to where it hangs; undefined when that did not come about. */
  readonly holdUp: (ctx: StageContext, random: Random) => Promise<Hanging | undefined>;
}

const MIN_PAUSE_MS = 200;
const MAX_PAUSE_MS = 1_200;
const REACH_TIMEOUT_MS = 3_500;
const REACH_POLL_MS = 25;
/** To reach a step. */
const MAX_ATTEMPTS = 2;
/** Recovery takes up what is older than 2 s. */
const RECOVERY_MS = 3_200;
const MIN_HOLD_MS = 50;
const MAX_HOLD_MS = 1_500;
const MAX_STOP_MS = 6_500;

const LEG_OF_BAIT = `select transfer_id, posting_index, bucket from ledger.remote_legs
  where credit_account_id = $1 and state = 'PREPARED' order by prepared_at desc limit 1`;
const ACCOUNT = "select 1 from ledger.accounts where account_id = $1 for update";
const LEGS = "select 1 from ledger.remote_legs where transfer_id = $1 for update";
const DECISION = "select 1 from ledger.decisions where transfer_id = $1 for update";
const HOLD = "select 1 from ledger.holds where hold_id = $1 for update";
const QUOTE = "select 1 from ledger.quotes where quote_id = $1 for update";
const TRANSFER = "select 1 from ledger.transfers where transfer_id = $1 for update";
const HEAD = "select 1 from ledger.shard_head for update";
const CURSOR = "select 1 from relay.cursor for update";

const steps: readonly Step[] = [
  { name: "prepare", role: "ledger", holdUp: holdUpPrepare },
  { name: "decide", role: "ledger", holdUp: holdUpDecide },
  // Only a decision that is carried out at once comes late and not too late.
  { name: "decide late", role: "ledger", strikes: ["let go", "terminate"], holdUp: holdUpLateDecide },
  { name: "post", role: "ledger", holdUp: holdUpPost },
  { name: "close", role: "ledger", holdUp: holdUpClose },
  { name: "release", role: "ledger", holdUp: holdUpRelease },
  { name: "abort", role: "ledger", holdUp: holdUpAbort },
  { name: "capture hold", role: "ledger", holdUp: holdUpCapture },
  { name: "reserve quote", role: "ledger", holdUp: holdUpReserve },
  { name: "use quote", role: "ledger", holdUp: holdUpUse },
  { name: "note reversal", role: "ledger", holdUp: holdUpNote },
  { name: "write batch", role: "ledger", holdUp: holdUpWrite },
  { name: "move cursor", role: "relay", holdUp: holdUpCursor },
];

interface Strike {
  readonly name: string;
  readonly strike: (ctx: StageContext, hanging: Hanging, random: Random) => Promise<void>;
}

/** What is done to a step that hangs, before the row is let go. */
const strikes: readonly Strike[] = [
  { name: "kill -9", strike: async ({ parts }, { part }) => void parts.kill9(part) },
  { name: "stop", strike: stopAndLetGo },
  { name: "crash", strike: async ({ parts }, { shard }) => void parts.kill9(postgresOf(shard)) },
  { name: "terminate", strike: terminate },
  { name: "wait", strike: async ({ signal }) => pause(RECOVERY_MS, signal) },
  { name: "let go", strike: (_, { release }) => release() },
];

type Stages = Generator<{ readonly step: Step; readonly strike: Strike }, never>;

/** Every step with every strike, for ever: each step has its turn before one has its second. Undefined when none is wanted. */
export function stagesOf(random: Random, only: readonly string[]): Stages | undefined {
  const wanted = steps.filter(
    ({ name }) => only.length === 0 || only.some((part) => `staged ${name}`.startsWith(part)),
  );
  return wanted.length === 0 ? undefined : pairsOf(wanted, random);
}

function* pairsOf(wanted: readonly Step[], random: Random): Stages {
  for (let round = random.between(0, strikes.length - 1); ; round += 1) {
    for (const step of order(wanted, random)) {
      const possible = strikes.filter(({ name }) => step.strikes?.includes(name) !== false);
      yield { step, strike: possible[(round + steps.indexOf(step)) % possible.length] as Strike };
    }
  }
}

/** One stage after the other, until the signal aborts. */
export async function strikeAtSteps(
  ctx: StageContext,
  stages: Stages | undefined,
  chance: Random,
  report: Report,
): Promise<void> {
  while (stages !== undefined && !ctx.signal.aborted) {
    await pause(chance.between(MIN_PAUSE_MS, MAX_PAUSE_MS), ctx.signal);
    if (ctx.signal.aborted) return;
    const { step, strike } = stages.next().value;
    // A chance of its own for each: how one went must not change those that follow.
    const random = seededRandom(chance.between(0, 2 ** 31));
    let hanging: Hanging | undefined;
    for (let attempt = 0; attempt < MAX_ATTEMPTS && hanging === undefined; attempt += 1) {
      await whenAllIsUp(ctx);
      hanging = await step.holdUp(ctx, random);
    }
    if (hanging === undefined) {
      report.stage(step.name, strike.name, "nothing", false);
      continue;
    }
    report.stage(step.name, strike.name, `${hanging.part}, ${postgresOf(hanging.shard)}`, true);
    await strike.strike(ctx, hanging, random);
    if (strike.name !== "let go") await pause(random.between(MIN_HOLD_MS, MAX_HOLD_MS), ctx.signal);
    await hanging.release();
  }
}

/** Other faults go on meanwhile: a step is only reached while the ledgers and the shards are there. */
async function whenAllIsUp(ctx: StageContext): Promise<void> {
  await reached(ctx, async () => {
    if (ctx.ledgers.some(({ name }) => ctx.parts.identity(name) === undefined || ctx.parts.isStopped(name)))
      return undefined;
    const answers = await Promise.all(shardNumbers.map((shard) => ask(shard, "select 1")));
    return answers.includes(undefined) ? undefined : true;
  });
}

function order<Element>(elements: readonly Element[], random: Random): Element[] {
  return elements
    .map((element) => ({ element, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ element }) => element);
}

/** The row is let go while the process cannot know it; it goes on when others have taken over, or before. */
async function stopAndLetGo({ parts, signal }: StageContext, { part, release }: Hanging, random: Random) {
  const resume = parts.stop(part);
  await pause(random.between(MIN_HOLD_MS, MAX_HOLD_MS), signal);
  await release();
  await pause(random.between(MIN_HOLD_MS, MAX_STOP_MS), signal);
  resume?.();
}

async function terminate(_: StageContext, { shard, sessions }: Hanging): Promise<void> {
  await ask(shard, "select pg_terminate_backend(pid) from unnest($1::int[]) pid", [sessions.map(({ pid }) => pid)]);
}

/** A bait on its way through one ledger. */
interface Bait {
  readonly ledger: LedgerClient;
  readonly payer: TortureAccount;
  readonly payee: TortureAccount;
  readonly remote: number;
}

/** Where the next bait goes: to another shard, through one of the ledgers. */
function chooseBait({ world, ledgers }: StageContext, random: Random): Bait {
  const shard = random.pick(shardNumbers);
  const remote = random.pick(shardNumbers.filter((other) => other !== shard));
  return {
    ledger: random.pick(ledgers),
    payer: random.pick(world.of("bait", shard)),
    payee: random.pick(world.of("bait", remote)),
    remote,
  };
}

/** Sends it; who waits for it is its client alone. */
function sendBait(ctx: StageContext, { ledger, payer, payee }: Bait, random: Random, amountMinorUnits = 1n): Command {
  const request = transferRequest(payer.id, payee.id, amountMinorUnits, { type: "bait" });
  return sendOrder(ctx, { rpc: "createTransfer", request }, ledger, random);
}

function sendOrder({ history, clients }: StageContext, order: Unkeyed, ledger: LedgerClient, random: Random): Command {
  const command = history.open("bait", order);
  clients.pursueBeside([command], seededRandom(random.between(0, 2 ** 31)), ledger);
  return command;
}

/** The id of what an order made; undefined when that is not known in time. */
async function made(ctx: StageContext, command: Command): Promise<string | undefined> {
  return reached(ctx, async () => {
    for (const { answer } of command.attempts) {
      if (answer.kind === "posted") return answer.transferId;
      if (answer.kind === "changed") return answer.resourceId;
    }
    return undefined;
  });
}

/** What `look` answers, as soon as it answers anything. */
async function reached<Found>(ctx: StageContext, look: () => Promise<Found | undefined>): Promise<Found | undefined> {
  const untilMs = performance.now() + REACH_TIMEOUT_MS;
  while (performance.now() < untilMs && !ctx.signal.aborted) {
    const found = await look();
    if (found !== undefined) return found;
    await pause(REACH_POLL_MS, ctx.signal);
  }
  return undefined;
}

function waitingFor(ctx: StageContext, holder: Holder, role: string): Promise<readonly Session[] | undefined> {
  return reached(ctx, async () => {
    const sessions = await holder.waiting(role);
    return sessions.length === 0 ? undefined : sessions;
  });
}

/** Waits until somebody of the role waits for the holder; lets everything go when nobody comes. Struck is who waits first. */
async function hangingAt(
  ctx: StageContext,
  { shard, role }: { readonly shard: number; readonly role: "ledger" | "relay" },
  holder: Holder,
): Promise<Hanging | undefined> {
  const sessions = await waitingFor(ctx, holder, role);
  const [first] = sessions ?? [];
  if (first !== undefined) return { part: first.part, shard, sessions: sessions ?? [], release: holder.release };
  await holder.release();
  return undefined;
}

async function holdUpPrepare(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const bait = chooseBait(ctx, random);
  const holder = await hold(bait.remote, ACCOUNT, [idToUuid(bait.payee.id)]);
  if (holder === undefined) return undefined;
  sendBait(ctx, bait, random);
  return hangingAt(ctx, { shard: bait.remote, role: "ledger" }, holder);
}

/** A bait whose decision hangs on the payer's shard, its legs prepared on the other one. */
async function prepared(
  ctx: StageContext,
  random: Random,
  amountMinorUnits?: bigint,
): Promise<{ bait: Bait; holder: Holder; transferUuid: string; sessions: readonly Session[] } | undefined> {
  const bait = chooseBait(ctx, random);
  const holder = await hold(bait.payer.shard, ACCOUNT, [idToUuid(bait.payer.id)]);
  if (holder === undefined) return undefined;
  sendBait(ctx, bait, random, amountMinorUnits);
  const transferUuid = await legOf(ctx, bait);
  const sessions = transferUuid === undefined ? undefined : await waitingFor(ctx, holder, "ledger");
  if (transferUuid !== undefined && sessions !== undefined) return { bait, holder, transferUuid, sessions };
  await holder.release();
  return undefined;
}

/** The transfer of a bait, as soon as its leg is prepared. */
function legOf(ctx: StageContext, { payee, remote }: Bait): Promise<string | undefined> {
  return reached(ctx, async () => {
    const [leg] = (await ask(remote, LEG_OF_BAIT, [idToUuid(payee.id)])) ?? [];
    return leg?.transfer_id as string | undefined;
  });
}

async function holdUpDecide(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const found = await prepared(ctx, random);
  if (found === undefined) return undefined;
  const { bait, holder, sessions } = found;
  return { part: bait.ledger.name, shard: bait.payer.shard, sessions, release: holder.release };
}

/** The decision waits in the ledger's queue, behind a batch that hangs, until recovery has decided against it. */
async function holdUpLateDecide(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const bait = chooseBait(ctx, random);
  const [blocker, other] = ctx.world.of("bait", bait.payer.shard).filter(({ id }) => id !== bait.payer.id);
  if (blocker === undefined || other === undefined) return undefined;
  const holder = await hold(bait.payer.shard, ACCOUNT, [idToUuid(blocker.id)]);
  if (holder === undefined) return undefined;
  sendBait(ctx, { ...bait, payer: blocker, payee: other, remote: bait.payer.shard }, random);
  const sessions = await waitingFor(ctx, holder, "ledger");
  if (sessions !== undefined) {
    sendBait(ctx, bait, random);
    const transferUuid = await legOf(ctx, bait);
    const aborted = transferUuid === undefined ? undefined : await reached(ctx, () => isAborted(bait, transferUuid));
    if (aborted !== undefined) {
      return { part: bait.ledger.name, shard: bait.payer.shard, sessions, release: holder.release };
    }
  }
  await holder.release();
  return undefined;
}

/** Whether recovery has decided against a transfer, by what it says or by what it does. */
async function isAborted({ payer, remote }: Bait, transferUuid: string): Promise<true | undefined> {
  const rows = await Promise.all([
    ask(payer.shard, "select 1 from ledger.decisions where transfer_id = $1", [transferUuid]),
    ask(remote, "select 1 from ledger.remote_legs where transfer_id = $1 and state = 'RELEASED'", [transferUuid]),
  ]);
  return rows.some((found) => found !== undefined && found.length > 0) ? true : undefined;
}

/** A bait that is decided, and whose posting hangs on the other shard. */
async function decided(
  ctx: StageContext,
  random: Random,
  amountMinorUnits?: bigint,
): Promise<(Hanging & { readonly transferUuid: string; readonly payerShard: number }) | undefined> {
  const found = await prepared(ctx, random, amountMinorUnits);
  if (found === undefined) return undefined;
  const { bait, holder, transferUuid } = found;
  const legs = await hold(bait.remote, LEGS, [transferUuid]);
  await holder.release();
  if (legs === undefined) return undefined;
  const hanging = await hangingAt(ctx, { shard: bait.remote, role: "ledger" }, legs);
  return hanging === undefined ? undefined : { ...hanging, transferUuid, payerShard: bait.payer.shard };
}

function holdUpPost(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  return decided(ctx, random);
}

async function holdUpClose(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const found = await decided(ctx, random);
  if (found === undefined) return undefined;
  const { payerShard, transferUuid } = found;
  const holder = await hold(payerShard, DECISION, [transferUuid]);
  await found.release();
  return holder === undefined ? undefined : hangingAt(ctx, { shard: payerShard, role: "ledger" }, holder);
}

/** More than the payer has: the legs that are prepared are released. */
function holdUpRelease(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  return decided(ctx, random, MORE_THAN_A_BAIT_HAS_MINOR_UNITS);
}

const MORE_THAN_A_BAIT_HAS_MINOR_UNITS = 8_000_000_000_000_000n;

/** A capture towards another shard: its leg is prepared, its decision waits for the hold. */
async function holdUpCapture(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const { ledger, payer, payee } = chooseBait(ctx, random);
  const accounts = { debitAccountId: payer.id, creditAccountId: payee.id, currency: "EUR" };
  const request = { ...accounts, amountMinorUnits: 5n, expireTime: undefined };
  const holdId = await made(ctx, sendOrder(ctx, { rpc: "createHold", request }, ledger, random));
  const holder = holdId === undefined ? undefined : await hold(payer.shard, HOLD, [idToUuid(holdId)]);
  if (holdId === undefined || holder === undefined) return undefined;
  const capture = { holdId, amountMinorUnits: undefined, final: true, type: "", memo: "", metadata: {} };
  sendOrder(ctx, { rpc: "captureHold", request: capture, expects: [accounts] }, ledger, random);
  return hangingAt(ctx, { shard: payer.shard, role: "ledger" }, holder);
}

/** A conversion whose payer is not on the shard of its quote. */
async function sendConversion(
  ctx: StageContext,
  random: Random,
  beforehand: (quoteUuid: string, quoteShard: number, payer: TortureAccount) => Promise<Holder | undefined>,
): Promise<{ holder: Holder; quoteUuid: string; quoteShard: number } | undefined> {
  const ledger = random.pick(ctx.ledgers);
  const [sellCurrency, buyCurrency] = ["EUR", "JPY"];
  const amount = { $case: "sellMinorUnits", value: 100n } as const;
  const quote = { sellCurrency, buyCurrency, amount, debitAccountId: "" };
  const quoteId = await made(ctx, sendOrder(ctx, { rpc: "createQuote", request: quote }, ledger, random));
  if (quoteId === undefined) return undefined;
  const quoteShard = shardOfId(quoteId);
  const payer = random.pick(ctx.world.of("bait").filter(({ shard }) => shard !== quoteShard));
  const payee = random.pick(ctx.world.of("wallet", undefined, buyCurrency));
  const holder = await beforehand(idToUuid(quoteId), quoteShard, payer);
  if (holder === undefined) return undefined;
  const request = { quoteId, debitAccountId: payer.id, creditAccountId: payee.id, memo: "", metadata: {} };
  const expects = [
    { debitAccountId: payer.id, creditAccountId: "system:fx_position", currency: sellCurrency },
    { debitAccountId: "system:fx_position", creditAccountId: payee.id, currency: buyCurrency },
  ];
  sendOrder(ctx, { rpc: "createConversion", request, expects }, ledger, random);
  return { holder, quoteUuid: idToUuid(quoteId), quoteShard };
}

async function holdUpReserve(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const sent = await sendConversion(ctx, random, (quoteUuid, shard) => hold(shard, QUOTE, [quoteUuid]));
  return sent && hangingAt(ctx, { shard: sent.quoteShard, role: "ledger" }, sent.holder);
}

/** The conversion is decided, and its quote is RESERVED yet. */
async function holdUpUse(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const sent = await sendConversion(ctx, random, (_uuid, _shard, payer) =>
    hold(payer.shard, ACCOUNT, [idToUuid(payer.id)]),
  );
  if (sent === undefined) return undefined;
  const { holder, quoteUuid, quoteShard } = sent;
  const reserved = await reached(ctx, async () => {
    const [row] =
      (await ask(quoteShard, "select 1 from ledger.quotes where quote_id = $1 and state = 'RESERVED'", [quoteUuid])) ??
      [];
    return row;
  });
  const quote = reserved === undefined ? undefined : await hold(quoteShard, QUOTE, [quoteUuid]);
  await holder.release();
  return quote && hangingAt(ctx, { shard: quoteShard, role: "ledger" }, quote);
}

/** All of a transfer is taken back, and its own shard is told so. */
async function holdUpNote(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const bait = chooseBait(ctx, random);
  const { ledger, payer, payee } = bait;
  const transferId = await made(ctx, sendBait(ctx, bait, random));
  const holder = transferId === undefined ? undefined : await hold(payer.shard, TRANSFER, [idToUuid(transferId)]);
  if (transferId === undefined || holder === undefined) return undefined;
  const request = { transferId, postings: [], type: "", memo: "", metadata: {} };
  const expects = [{ debitAccountId: payee.id, creditAccountId: payer.id, amountMinorUnits: 1n, currency: "EUR" }];
  sendOrder(ctx, { rpc: "reverseTransfer", request, expects }, ledger, random);
  return hangingAt(ctx, { shard: payer.shard, role: "ledger" }, holder);
}

/** The ledger is killed between preparing and deciding; the tombstone that recovery writes hangs. */
async function holdUpAbort(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const found = await prepared(ctx, random);
  if (found === undefined) return undefined;
  const { bait, holder } = found;
  ctx.parts.kill9(bait.ledger.name);
  const head = await hold(bait.payer.shard, HEAD);
  await holder.release();
  if (head === undefined) return undefined;
  await pause(RECOVERY_MS, ctx.signal);
  return hangingAt(ctx, { shard: bait.payer.shard, role: "ledger" }, head);
}

/** Whatever batch comes next hangs at the head of the event log, all its statements done but the last. */
async function holdUpWrite(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const shard = random.pick(shardNumbers);
  const holder = await hold(shard, HEAD);
  if (holder === undefined) return undefined;
  return hangingAt(ctx, { shard, role: "ledger" }, holder);
}

/** Published and sealed, and the cursor does not move. */
async function holdUpCursor(ctx: StageContext, random: Random): Promise<Hanging | undefined> {
  const shard = random.pick(shardNumbers);
  const holder = await hold(shard, CURSOR);
  if (holder === undefined) return undefined;
  return hangingAt(ctx, { shard, role: "relay" }, holder);
}
