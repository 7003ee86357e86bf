// Runs alone: it counts on the time that it has.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import fc from "fast-check";

import { type Answer, CallError, call, readDetails } from "#lib/grpc-client.ts";
import { idToUuid } from "#lib/ids.ts";
import { evenBucketRanges } from "#lib/shards.ts";
import {
  type Account,
  type BatchCreateTransfersResponse_Result,
  type CreateTransferRequest,
  type Entry,
  Quote_State,
  type ReverseTransferRequest,
  type ReverseTransferResponse_Result,
  type Transfer,
  Transfer_State,
} from "#proto/ledgermesh/ledger/v1/ledger.ts";
import { modelBounds, modelSeed } from "#tests/config.ts";
import { forgetRates } from "#tests/exchange.ts";
import { assertInvariants } from "#tests/invariants.ts";
import {
  accountAnswer,
  comparable,
  emptyModel,
  holdAnswer,
  isTakenBack,
  judge,
  judgeEntries,
  type Command as KeyedCommand,
  type Model,
  type ModelAccount,
  type Observed,
  quoteAnswer,
  transferAnswer,
} from "#tests/model.ts";
import {
  type Command,
  OWNER_COUNT_PER_SHARD,
  type Step,
  stepsOf,
  toBatch,
  toCommand,
  type World,
} from "#tests/model-commands.ts";
import { judgeGroup } from "#tests/model-group.ts";
import { judgeReversal, type ObservedReversal } from "#tests/model-reversal.ts";
import { eventually, ledger, newId, newKey, postgres, shardNumbers } from "#tests/stack.ts";

/**
 * The ledger against the plain model of tests/model.ts: random commands, one after the other, on three shards; every answer is
 * compared, and at the end of each run every account, entry, transfer and hold. To repeat one, or to run more:
 *
 *   LEDGERMESH_MODEL_SEED=seed:path   LEDGERMESH_MODEL_RUNS=200   LEDGERMESH_MODEL_STEPS=300
 */

const { runs, steps } = modelBounds();
/** Beyond it no further run begins, and a failure is not made any shorter. */
const TIME_LIMIT_MS = 80_000;
const MAX_REPEATS = 100;
const REPEAT_PAUSE_MS = 50;
/** Rates belong to the whole stack: these are this file's. */
const PAIRS = [
  ["CLP", "HUF"],
  ["CLP", "OMR"],
  ["HUF", "OMR"],
] as const;
const map = { version: 1, ranges: evenBucketRanges(shardNumbers.length) };
/** How often each method came to each end, over all runs. */
const outcomes = new Map<string, number>();

test("every command of a random run is answered as the model says, and leaves what the model says", async () => {
  await check(play, runs);
});

test("commands side by side, each called twice at once, are done once and break no rule", async () => {
  await check(playSideBySide, Math.ceil(runs / RUNS_PER_RUN_SIDE_BY_SIDE));
});

test("after all of it every shard sums to zero and every account is the sum of its entries", async () => {
  await assertInvariants();
});

async function check(run: (given: Step[]) => Promise<void>, numRuns: number): Promise<void> {
  const { seed, path } = modelSeed() ?? { seed: randomInt(2 ** 31), path: "" };
  process.stdout.write(`model: LEDGERMESH_MODEL_SEED=${seed}${path === "" ? "" : `:${path}`}\n`);
  outcomes.clear();
  const details = await fc.check(fc.asyncProperty(stepsOf(steps), run), {
    seed,
    ...(path === "" ? {} : { path }),
    numRuns,
    interruptAfterTimeLimit: TIME_LIMIT_MS,
  });
  process.stdout.write(`model: ${details.numRuns} runs of up to ${steps} steps\n${countsText()}\n`);
  if (details.failed) {
    const repeat = `LEDGERMESH_MODEL_SEED=${details.seed}:${details.counterexamplePath} node --test tests/model.test.ts`;
    const { errorInstance: error } = details;
    const report = error instanceof Error ? error.message : String(error);
    assert.fail(
      `after ${details.numRuns} runs and ${details.numShrinks} shortenings:\n${report}\nTo repeat: ${repeat}`,
    );
  }
  assert.ok(details.numRuns > 0, "not one run ended in time");
}

/** One run. Rejects with what was done so far and where ledger and model differ. */
async function play(given: readonly Step[]): Promise<void> {
  const world = newWorld();
  const trace: string[] = [];
  for (const [base, quote] of PAIRS) await forgetRates(base, quote);
  try {
    for (const step of given) await take(world, step, trace);
    await compareAll(world, 5);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Error(`${named(world, trace.join("\n"))}\n${named(world, text)}`, { cause: error });
  }
}

function newWorld(): World {
  return {
    model: emptyModel(map),
    run: `model_${newKey().slice(-10)}`,
    owners: newOwners(),
    newKey,
    history: [],
    groups: [],
  };
}

/**
 * One run in which only accounts and rates are made one after the other. Everything else goes side by side, each command twice:
 * what comes of it depends on the order, but both calls are told the same, and one at most that it was the first. The rules that hold in
 * any order (floors, sums, holds, remainders, one effect per key) are the invariants, which the last test of this file asks for.
 */
async function playSideBySide(given: readonly Step[]): Promise<void> {
  const world = newWorld();
  const trace: string[] = [];
  for (const [base, quote] of PAIRS) await forgetRates(base, quote);
  const isAlone = ({ do: what }: Step) => what === "open" || what === "rates";
  try {
    for (const step of given.filter(isAlone)) await take(world, step, trace);
    const others = given.flatMap((step) => (isAlone(step) || step.do === "read" || step.do === "batch" ? [] : [step]));
    for (let from = 0; from < others.length; from += COMMANDS_SIDE_BY_SIDE) {
      const commands = others
        .slice(from, from + COMMANDS_SIDE_BY_SIDE)
        .flatMap((step) => toCommand(world, step as Parameters<typeof toCommand>[1]) ?? []);
      await Promise.all(commands.map((command) => takeTwice(world, command, trace)));
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Error(`${named(world, trace.join("\n"))}\n${named(world, text)}`, { cause: error });
  }
}

const COMMANDS_SIDE_BY_SIDE = 4;
const RUNS_PER_RUN_SIDE_BY_SIDE = 4;
/** Of the ledger's own making; the rest of the words is for those who call. */
const DEFECTS = ["INTERNAL", ""];

/** The same call twice at once: the same outcome, of which one call at most was the first. */
async function takeTwice(world: World, command: Command, trace: string[]): Promise<void> {
  world.history.push(command);
  // What it says of balances and states is not true side by side: it is asked for nothing.
  const nothing = emptyModel(map);
  const once = async () => {
    if (command.method !== "reverseTransfer") return [await observe(nothing, command)];
    const observed = await observeReversal(nothing, command.request);
    return observed.kind === "results" ? observed.results : [observed];
  };
  const [one, other] = await Promise.all([once(), once()]);
  trace.push(
    `${describe(command)} -> ${one.map(describeOutcome).join(", ")} | ${other.map(describeOutcome).join(", ")}`,
  );
  assert.deepEqual(one.map(withoutReplayed), other.map(withoutReplayed), "two calls with one key have two outcomes");
  for (const [index, result] of one.entries()) {
    count(command.method, result);
    if (result.kind === "refused") assert.ok(!DEFECTS.includes(result.reason), `refused with ${result.reason}`);
    const firsts = [result, other[index]].filter((each) => each?.kind === "answer" && each.replayed === false);
    assert.ok(firsts.length <= 1, "both calls are told that they were the first");
  }
  const [observed] = one;
  if (command.method === "reverseTransfer" || observed === undefined) return;
  try {
    // Holds, quotes and transfers that there are now, for the commands that come.
    judge(world.model, command, { ...observed, replayed: undefined });
  } catch (error) {
    if (!(error instanceof assert.AssertionError)) throw error;
  }
}

function withoutReplayed(observed: Observed): string {
  return describeOutcome({ ...observed, replayed: undefined });
}

/** Owners on every shard, each in a bucket of its own. */
function newOwners(): string[] {
  return map.ranges.slice(0, shardNumbers.length).flatMap(({ firstBucket, lastBucket }) =>
    Array.from({ length: OWNER_COUNT_PER_SHARD }, (_, index) => {
      const width = Math.floor((lastBucket - firstBucket + 1) / OWNER_COUNT_PER_SHARD);
      return newId("user", firstBucket + index * width + randomInt(width));
    }),
  );
}

async function take(world: World, step: Step, trace: string[]): Promise<void> {
  if (step.do === "read") {
    trace.push("read everything");
    return compareAll(world, step.pageSize);
  }
  if (step.do === "batch") {
    const requests = toBatch(world, step);
    return requests.length === 0 ? undefined : takeBatch(world, requests, trace);
  }
  const command = toCommand(world, step);
  if (command === undefined) return undefined;
  world.history.push(command);
  if (command.method === "reverseTransfer") return takeReversal(world, command, trace);
  const observed = await observe(world.model, command);
  trace.push(`${describe(command)} -> ${describeOutcome(observed)}`);
  count(command.method, observed);
  judge(world.model, command, observed);
  await settle(world, observed);
}

async function takeReversal(world: World, command: Extract<Command, { method: "reverseTransfer" }>, trace: string[]) {
  const observed = await observeReversal(world.model, command.request);
  const results = observed.kind === "results" ? observed.results : [observed];
  trace.push(`${describe(command)} -> ${results.map(describeOutcome).join(", ")}`);
  for (const result of results) count(command.method, result);
  judgeReversal(world.model, command.request, observed);
  await settle(world, undefined);
}

async function takeBatch(world: World, requests: CreateTransferRequest[], trace: string[]): Promise<void> {
  const { response } = await call(ledger, ledger.batchCreateTransfers, { transfers: requests });
  assert.equal(response.results.length, requests.length);
  trace.push(`batch of ${requests.length}`);
  for (let from = 0; from < requests.length; ) {
    const { group } = requests[from] as CreateTransferRequest;
    const beyond = requests.findIndex((other, index) => index > from && (group === "" || other.group !== group));
    const until = beyond === -1 ? requests.length : beyond;
    const members = requests.slice(from, until);
    const results = response.results.slice(from, until);
    const observed =
      group === ""
        ? [
            await observeItem(
              world.model,
              { method: "createTransfer", request: members[0] as CreateTransferRequest },
              results[0],
            ),
          ]
        : await observeGroup(world.model, members, results);
    for (const [index, request] of members.entries()) {
      const command = { method: "createTransfer", request } as const;
      const result = observed[index] as Observed;
      trace.push(`  ${describe(command)} -> ${describeOutcome(result)}`);
      count(group === "" ? "batch_item" : "group_member", result);
      if (group === "") world.history.push(command);
      if (group === "") judge(world.model, command, result);
    }
    if (group !== "") {
      world.groups.push(members);
      judgeGroup(world.model, members, observed);
    }
    from = until;
  }
  await settle(world, undefined);
}

/** Calls until the outcome is known: as the contract says, the same call with the same key. */
async function observe(model: Model, command: KeyedCommand): Promise<Observed> {
  let isFirst = true;
  for (let repeats = 0; repeats < MAX_REPEATS; repeats += 1) {
    try {
      const { response, replayed } = await invoke(command);
      if ("balances" in response && response.state === Transfer_State.PROCESSING) isFirst = false;
      else if (!("balances" in response) || (await isAsItWillStay(model, response))) {
        return { kind: "answer", answer: await whenArrived(response), replayed: isFirst ? replayed : undefined };
      }
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.code !== UNAVAILABLE) return refusedBy(error, isFirst);
      // With a reason of ours nothing has happened.
      if (error.reason === "") isFirst = false;
    }
    await pause(REPEAT_PAUSE_MS);
  }
  throw new Error(`${command.method} had no outcome after ${MAX_REPEATS} calls`);
}

/** That a transfer is wholly taken back is noted on it a moment later; then the answer is asked for again. */
async function isAsItWillStay({ transfers }: Model, { transferId, state }: Transfer): Promise<boolean> {
  const known = transfers.get(transferId);
  if (known === undefined || !isTakenBack(known) || state === Transfer_State.REVERSED) return true;
  await eventually(async () => {
    const { response } = await call(ledger, ledger.getTransfer, { transferId });
    return response.state === Transfer_State.REVERSED;
  }, `${transferId} is noted as taken back`);
  return false;
}

/** As `observe`, of a call that makes a transfer for each bucket. */
async function observeReversal(model: Model, request: ReverseTransferRequest): Promise<ObservedReversal> {
  for (let repeats = 0; repeats < MAX_REPEATS; repeats += 1) {
    try {
      const { response, replayed } = await call(ledger, ledger.reverseTransfer, request);
      const results = await Promise.all(response.reversals.map(toObserved));
      if (results.every((result) => result !== undefined)) {
        // Asked for again, a part of them were made before.
        const first = repeats === 0;
        if (first) return { kind: "results", results, replayed };
        return {
          kind: "results",
          results: results.map((result) => ({ ...result, replayed: undefined })),
          replayed: undefined,
        };
      }
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.code !== UNAVAILABLE) return refusedBy(error, repeats === 0) as ObservedReversal;
    }
    await pause(REPEAT_PAUSE_MS);
  }
  throw new Error(
    `the reversal of ${model.transfers.get(request.transferId)?.id} had no outcome after ${MAX_REPEATS} calls`,
  );
}

/** Undefined when its outcome is not known yet. */
async function toObserved({ outcome, replayed }: ReverseTransferResponse_Result): Promise<Observed | undefined> {
  if (outcome?.$case === "transfer") {
    if (outcome.value.state === Transfer_State.PROCESSING) return undefined;
    return { kind: "answer", answer: await whenArrived(outcome.value), replayed };
  }
  if (outcome === undefined || outcome.value.code === UNAVAILABLE) return undefined;
  const { info } = readDetails(outcome.value);
  const { reason = "", metadata = {} } = info ?? {};
  return { kind: "refused", code: outcome.value.code, reason, resourceName: metadata.resource_name, replayed };
}

const UNAVAILABLE = 14;

function invoke({ method, request }: KeyedCommand): Promise<Answer<Exclude<Observed, { kind: "refused" }>["answer"]>> {
  switch (method) {
    case "createAccount":
      return call(ledger, ledger.createAccount, request);
    case "freezeAccount":
      return call(ledger, ledger.freezeAccount, request);
    case "unfreezeAccount":
      return call(ledger, ledger.unfreezeAccount, request);
    case "closeAccount":
      return call(ledger, ledger.closeAccount, request);
    case "createTransfer":
      return call(ledger, ledger.createTransfer, request);
    case "createHold":
      return call(ledger, ledger.createHold, request);
    case "captureHold":
      return call(ledger, ledger.captureHold, request);
    case "voidHold":
      return call(ledger, ledger.voidHold, request);
    case "setRates":
      return call(ledger, ledger.setRates, request);
    case "createQuote":
      return call(ledger, ledger.createQuote, request);
    case "createConversion":
      return call(ledger, ledger.createConversion, request);
  }
}

/** The transfer when no account waits for its part any more; anything else as it is. */
async function whenArrived<Response>(response: Response | Transfer): Promise<Response> {
  const isOnTheWay = (answer: object): answer is Transfer =>
    "pendingAccountIds" in answer && (answer as Transfer).pendingAccountIds.length > 0;
  let now = response as Response & object;
  if (!isOnTheWay(now)) return now;
  const { transferId } = now;
  await eventually(async () => {
    now = (await call(ledger, ledger.getTransfer, { transferId })).response as unknown as Response & object;
    return !isOnTheWay(now);
  }, `${transferId} has arrived everywhere`);
  return now;
}

function refusedBy({ code, reason, metadata, replayed }: CallError, isFirst = true): Observed {
  return {
    kind: "refused",
    code,
    reason,
    resourceName: metadata.resource_name,
    replayed: isFirst ? replayed : undefined,
  };
}

/** What became of an item of a batch; one whose outcome is not known is asked for alone. */
async function observeItem(
  model: Model,
  command: KeyedCommand,
  result: BatchCreateTransfersResponse_Result | undefined,
): Promise<Observed> {
  const outcome = result?.outcome;
  const isLate = outcome?.$case === "transfer" && !(await isAsItWillStay(model, outcome.value));
  const observed = result === undefined || isLate ? undefined : await toObserved(result);
  return observed ?? { ...(await observe(model, command)), replayed: undefined };
}

/** What became of a group of a batch; one whose outcome is not known is asked for as a whole. */
async function observeGroup(
  model: Model,
  members: CreateTransferRequest[],
  given: readonly BatchCreateTransfersResponse_Result[],
): Promise<Observed[]> {
  let results = given;
  for (let repeats = 0; repeats < MAX_REPEATS; repeats += 1) {
    const observed = await Promise.all(
      results.map(async (result) => {
        const transfer = result.outcome?.$case === "transfer" ? result.outcome.value : undefined;
        return transfer === undefined || (await isAsItWillStay(model, transfer)) ? toObserved(result) : undefined;
      }),
    );
    if (observed.every((one) => one !== undefined)) {
      return repeats === 0 ? observed : observed.map((one) => ({ ...one, replayed: undefined }));
    }
    await pause(REPEAT_PAUSE_MS);
    results = (await call(ledger, ledger.batchCreateTransfers, { transfers: members })).response.results;
  }
  throw new Error(`a group had no outcome after ${MAX_REPEATS} calls`);
}

/** What is refused or repeated has given its room on other shards back a moment later: until then it is not at rest. */
async function settle({ model }: World, observed: Observed | undefined): Promise<void> {
  if (observed?.kind === "answer" && observed.replayed === false) return;
  const ids = knownAccounts(model).map(({ id }) => idToUuid(id ?? ""));
  const isAtRest = async (shard: number) => {
    const { rows } = await postgres(shard).query(
      `select 1 from ledger.accounts where account_id = any ($1)
          and (prepared_credit_minor_units <> 0 or prepared_debit_minor_units <> 0) limit 1`,
      [ids],
    );
    return rows.length === 0;
  };
  await eventually(
    async () => (await Promise.all(shardNumbers.map(isAtRest))).every((atRest) => atRest),
    "nothing is prepared any more",
  );
}

function knownAccounts({ accounts, systems }: Model): ModelAccount[] {
  return [...accounts, ...systems.values()].filter(({ id }) => id !== undefined);
}

/** Everything that can be read, against the model. */
async function compareAll({ model, owners }: World, pageSize: number): Promise<void> {
  await Promise.all([
    ...knownAccounts(model).map(async (account) => {
      const accountId = account.id ?? "";
      const { response } = await call(ledger, ledger.getAccount, { accountId });
      assert.deepEqual(comparable(response), accountAnswer(account));
      // The accounts of the house have entries of other runs too.
      const most = account.reference.startsWith("system:fx_") ? account.entries.length : Number.MAX_SAFE_INTEGER;
      judgeEntries(account, await readEntries(accountId, pageSize, most));
    }),
    ...[...model.transfers.values()].map(async (transfer) => {
      let { response } = await call(ledger, ledger.getTransfer, { transferId: transfer.id });
      if (!(await isAsItWillStay(model, response))) {
        ({ response } = await call(ledger, ledger.getTransfer, { transferId: transfer.id }));
      }
      assert.deepEqual(comparable(response), transferAnswer(transfer));
    }),
    ...[...model.holds.values()].map(async (hold) => {
      const { response } = await call(ledger, ledger.getHold, { holdId: hold.id });
      assert.deepEqual(response, holdAnswer(hold));
    }),
    ...[...model.quotes.values()].map(async (quote) => {
      let { response } = await call(ledger, ledger.getQuote, { quoteId: quote.id });
      await eventually(async () => {
        ({ response } = await call(ledger, ledger.getQuote, { quoteId: quote.id }));
        return response.state !== Quote_State.RESERVED;
      }, `${quote.id} is used or open`);
      assert.deepEqual(response, quoteAnswer(quote));
    }),
    ...owners.map((ownerId) => compareLists(model, ownerId, pageSize)),
  ]);
}

/** The lists of an owner: all of its accounts by pages, newest first, and each by its reference. */
async function compareLists({ accounts }: Model, ownerId: string, pageSize: number): Promise<void> {
  const own = accounts.filter((account) => account.ownerId === ownerId);
  const listed: Account[] = [];
  const list = async (reference: string, pageToken: string) =>
    (await call(ledger, ledger.listAccounts, { ownerId, reference, pageSize, pageToken })).response;
  for (let pageToken = "", hasMore = true; hasMore; ) {
    const page = await list("", pageToken);
    assert.ok(page.accounts.length === pageSize || !page.hasMore, "a page is full unless it is the last");
    assert.equal(page.nextPageToken !== "", page.hasMore);
    listed.push(...page.accounts);
    ({ nextPageToken: pageToken, hasMore } = page);
  }
  assert.deepEqual(listed.map(comparable), own.map(accountAnswer).reverse());
  for (const account of own.filter(({ reference }) => reference !== "")) {
    assert.deepEqual((await list(account.reference, "")).accounts.map(comparable), [accountAnswer(account)]);
  }
}

async function readEntries(accountId: string, pageSize: number, most: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let pageToken = "", hasMore = true; hasMore; ) {
    const { response } = await call(ledger, ledger.listAccountEntries, { accountId, pageSize, pageToken });
    assert.ok(response.entries.length === pageSize || !response.hasMore, "a page is full unless it is the last");
    assert.equal(response.nextPageToken !== "", response.hasMore);
    entries.push(...response.entries);
    ({ nextPageToken: pageToken, hasMore } = response);
    if (entries.length >= most) break;
  }
  return entries.slice(0, most);
}

function count(method: string, observed: Observed): void {
  const outcome = observed.kind === "refused" ? observed.reason : "done";
  const name = `${method} ${outcome}${observed.replayed === true ? " again" : ""}`;
  outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
}

/** A line per method: how often it came to which end. */
function countsText(): string {
  const lines = new Map<string, string[]>();
  for (const [name, number] of outcomes) {
    const [method = "", ...end] = name.split(" ");
    lines.set(method, [...(lines.get(method) ?? []), `${end.join(" ")} ${number}`]);
  }
  return [...lines].map(([method, ends]) => `  ${method}: ${ends.join(", ")}`).join("\n");
}

function describe({ method, request }: Command): string {
  return `${method} ${JSON.stringify(request, (_, value) => (typeof value === "bigint" ? Number(value) : value))}`;
}

function describeOutcome(observed: Observed): string {
  const replayed = observed.replayed === true ? " (replayed)" : "";
  if (observed.kind === "refused") return `${observed.reason}${replayed}`;
  const { answer } = observed;
  if ("balances" in answer) return `${answer.transferId}${replayed}`;
  if ("quoteId" in answer) return `${answer.quoteId}${replayed}`;
  if ("rates" in answer) return `done${replayed}`;
  return `${"holdId" in answer ? answer.holdId : answer.accountId}${replayed}`;
}

/** Ids as people can tell them apart. */
function named({ model, owners, run }: World, text: string): string {
  const names = new Map<string, string>();
  for (const [index, account] of knownAccounts(model).entries()) {
    const { id = "", shard, currency, reference } = account;
    names.set(
      id,
      `${reference.startsWith("system:") ? reference.slice(run.length + 8) : `A${index}`}@${shard}${currency}`,
    );
  }
  for (const [index, id] of [...model.transfers.keys()].entries()) names.set(id, `T${index}`);
  for (const [index, id] of [...model.holds.keys()].entries()) names.set(id, `H${index}`);
  for (const [index, id] of [...model.quotes.keys()].entries()) names.set(id, `Q${index}`);
  for (const [index, id] of owners.entries()) names.set(id, `owner ${index}`);
  return text.replaceAll(
    /\b(acct|xfer|hold|quot|user)_[0-9a-z]{26}\b/g,
    (id) => names.get(id) ?? `${id.slice(0, 5)}…${id.slice(-4)}`,
  );
}
