import { formatDecimal, parseDecimal } from "#lib/decimal.ts";
import { MAX_SPREAD_BPS } from "#lib/exchange.ts";
import { checkCurrency, checkTime, FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid } from "#lib/ids.ts";
import { encodePosition } from "#lib/position.ts";
import { systemBucketOf } from "#lib/shards.ts";
import type { Rate, SetRatesRequest, SetRatesResponse } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { CommandOutcome, SetRatesCommand } from "#services/ledger/command.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { submit } from "#services/ledger/cross-shard.ts";
import { positionOf } from "#services/ledger/make-transfer.ts";
import { type DatedRate, pairOf, readRates } from "#services/ledger/rate.ts";
import { refusals } from "#services/ledger/refusals.ts";

const METHOD = "set_rates";
const MAX_RATES_PER_CALL = 200;

/** One command per shard, each under the call's key: repeated, the call completes what is missing. */
export async function setRates(ctx: Context, request: SetRatesRequest, call: Call): Promise<SetRatesResponse> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const rates = parseRates(request);
  const untilMs = performance.now() + COMMAND_TIMEOUT_MS;
  const answers = await Promise.all(
    ctx.shards.map(async (handle) => {
      const command = toCommand(ctx, handle, rates, call.caller, idempotencyKey);
      const outcome = await submit(handle, command, { name: call.caller, ordered: false }, untilMs);
      return { handle, outcome };
    }),
  );
  refuseUnlessEverywhere(answers, call);
  const positions = answers.map(({ handle, outcome }) => positionOf(handle, outcome));
  call.setPosition(encodePosition(positions.filter((position) => position !== undefined)));
  return { rates: await ratesNow(ctx, rates) };
}

interface ShardAnswer {
  readonly handle: ShardHandle;
  readonly outcome: CommandOutcome;
}

/** Throws what a shard refused for good, or which shards do not have the rates yet. */
function refuseUnlessEverywhere(answers: readonly ShardAnswer[], call: Call): void {
  const missing: ShardAnswer[] = [];
  for (const answer of answers) {
    const { outcome } = answer;
    if (outcome.kind === "failed") throw outcome.error;
    if (outcome.kind === "refused" && outcome.refusal.status !== "UNAVAILABLE") {
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    }
    if (outcome.kind !== "done") missing.push(answer);
  }
  const [first] = missing;
  if (first === undefined) {
    if (answers.every(({ outcome }) => outcome.kind === "done" && outcome.replayed)) call.markReplayed();
    return;
  }
  const nowhere = missing.length === answers.length && missing.every(({ outcome }) => outcome.kind === "refused");
  if (nowhere && first.outcome.kind === "refused") throw first.outcome.refusal;
  throw refusals.ratesNotEverywhere(missing.map(({ handle }) => handle.shard.number));
}

/** Of each pair the rate that counts now; any shard knows. */
async function ratesNow(ctx: Context, rates: readonly DatedRate[]): Promise<Rate[]> {
  const [{ shard }] = ctx.shards as [ShardHandle];
  const pairs = rates.map(({ base, quote }) => pairOf(base, quote));
  // They are set: what cannot be said is which of them count.
  const now = await readRates(shard.reads, pairs).catch(() => Promise.reject(refusals.outcomeUnknown(shard.number)));
  return pairs.flatMap((pair) => {
    const rate = now.get(pair);
    return rate === undefined ? [] : [toRate(rate)];
  });
}

function toRate({ base, quote, rate, spreadBps, asOfMs }: DatedRate): Rate {
  return { base, quote, rate: formatDecimal(rate), spreadBps, asOf: new Date(asOfMs) };
}

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
function parseRates(request: SetRatesRequest): DatedRate[] {
  const check = new FieldCheck();
  const count = request.rates.length;
  check.require(
    count >= 1 && count <= MAX_RATES_PER_CALL,
    "rates",
    `must hold 1 to ${MAX_RATES_PER_CALL} rates, not ${count}`,
  );
  const pairs = new Set<string>();
  const rates: DatedRate[] = [];
  for (const [index, { base, quote, rate: text, spreadBps, asOf }] of request.rates
    .slice(0, MAX_RATES_PER_CALL)
    .entries()) {
    const field = `rates[${index}]`;
    checkCurrency(check, `${field}.base`, base);
    checkCurrency(check, `${field}.quote`, quote);
    check.require(base !== quote, `${field}.quote`, "is the base too: a rate is of two currencies");
    const pair = pairOf(base, quote);
    check.require(!pairs.has(pair), field, "has the pair of an earlier one: each pair once, in one direction");
    pairs.add(pair);
    const rate = parseDecimal(text);
    check.require(
      rate !== undefined,
      `${field}.rate`,
      "must be a decimal above zero, such as 1.0842, with at most 18 digits on either side of the point",
    );
    check.require(
      spreadBps >= 0 && spreadBps <= MAX_SPREAD_BPS,
      `${field}.spread_bps`,
      `must be 0 to ${MAX_SPREAD_BPS} hundredths of a percent`,
    );
    check.require(asOf !== undefined, `${field}.as_of`, "is required: when the rate was the market's");
    checkTime(check, `${field}.as_of`, asOf);
    if (rate !== undefined && asOf !== undefined) {
      rates.push({ base, quote, rate, spreadBps, asOfMs: asOf.getTime() });
    }
  }
  check.done();
  return rates;
}

function toCommand(
  ctx: Context,
  handle: ShardHandle,
  rates: readonly DatedRate[],
  caller: string,
  idempotencyKey: string,
): SetRatesCommand {
  const bucket = systemBucketOf(ctx.map, handle.shard.number);
  const key = commandKey({
    bucket,
    caller,
    method: METHOD,
    key: idempotencyKey,
    fingerprint: canonicalHash(rates.map(fingerprintOf)),
    resourceUuid: idToUuid(ctx.newId("xfer", bucket)),
    makes: undefined,
  });
  return { kind: "set_rates", key, name: key.text, weight: rates.length, accounts: [], rates };
}

function fingerprintOf({ base, quote, rate, spreadBps, asOfMs }: DatedRate): unknown {
  return [base, quote, formatDecimal(rate), spreadBps, asOfMs];
}
