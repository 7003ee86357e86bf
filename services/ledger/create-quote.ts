import { checkCurrency, FieldCheck } from "#lib/fields.ts";
import type { Call } from "#lib/grpc-server.ts";
import { idempotencyKeyOf } from "#lib/idempotency-key.ts";
import { idToUuid, parseId } from "#lib/ids.ts";
import { encodePosition } from "#lib/position.ts";
import { Defect } from "#lib/refusal.ts";
import { shardOfBucket } from "#lib/shards.ts";
import type { CreateQuoteRequest, Quote } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { CommandAnswer, CreateQuoteCommand } from "#services/ledger/command.ts";
import { canonicalHash, commandKey } from "#services/ledger/command-key.ts";
import { COMMAND_TIMEOUT_MS, type Context, type ShardHandle } from "#services/ledger/context.ts";
import { unownedBucket } from "#services/ledger/create-account.ts";
import { readQuote, toQuote } from "#services/ledger/get-quote.ts";
import { positionOf } from "#services/ledger/make-transfer.ts";
import { refusals } from "#services/ledger/refusals.ts";

const METHOD = "create_quote";

export async function createQuote(ctx: Context, request: CreateQuoteRequest, call: Call): Promise<Quote> {
  const idempotencyKey = idempotencyKeyOf(call, request.idempotencyKey);
  const parsed = parseQuote(request);
  const bucket = parsed.debitBucket ?? unownedBucket(call.caller, idempotencyKey);
  const handle = ctx.shardOf(shardOfBucket(ctx.map, bucket));
  const command = toCommand(ctx, parsed, bucket, call.caller, idempotencyKey);
  const lane = { name: call.caller, ordered: false };
  const outcome = await handle.commands.submit(command, lane, performance.now() + COMMAND_TIMEOUT_MS);

  switch (outcome.kind) {
    case "done": {
      if (outcome.replayed) call.markReplayed();
      const position = positionOf(handle, outcome);
      if (position !== undefined) call.setPosition(encodePosition([position]));
      return answerQuote(ctx, handle, outcome.answer);
    }
    case "refused":
      if (outcome.replayed) call.markReplayed();
      throw outcome.refusal;
    case "unknown":
      throw refusals.outcomeUnknown(handle.shard.number);
    case "failed":
      throw outcome.error;
  }
}

async function answerQuote(ctx: Context, handle: ShardHandle, answer: CommandAnswer): Promise<Quote> {
  if (answer.kind === "quote") return toQuote(answer.quote, false);
  if (answer.kind !== "resource") throw new Defect(`a quote was answered with ${answer.kind}`);
  const made = await readQuote(ctx, answer.resourceUuid).catch(() =>
    Promise.reject(refusals.outcomeUnknown(handle.shard.number)),
  );
  if (made === undefined) throw new Defect(`the quote ${answer.resourceUuid} is not there any more`);
  return toQuote(made.quote, made.expired);
}

interface ParsedQuote {
  readonly sellCurrency: string;
  readonly buyCurrency: string;
  readonly fixed: "sell" | "buy";
  readonly amountMinorUnits: bigint;
  /** Undefined: anybody may pay. */
  readonly debitAccountId: string | undefined;
  readonly debitBucket: number | undefined;
}

/** Throws INVALID_ARGUMENT naming every field that is malformed. */
function parseQuote({ sellCurrency, buyCurrency, amount, debitAccountId }: CreateQuoteRequest): ParsedQuote {
  const check = new FieldCheck();
  checkCurrency(check, "sell_currency", sellCurrency);
  checkCurrency(check, "buy_currency", buyCurrency);
  check.require(sellCurrency !== buyCurrency, "buy_currency", "is the sold currency too: there is nothing to exchange");
  const fixed = amount?.$case === "buyMinorUnits" ? "buy" : "sell";
  const amountMinorUnits = amount?.value ?? 0n;
  if (check.require(amount !== undefined, "sell_minor_units", "or buy_minor_units is required: the amount to fix")) {
    check.require(amountMinorUnits > 0n, `${fixed}_minor_units`, "must be above zero");
  }
  const debit = debitAccountId === "" ? undefined : parseId(debitAccountId, "acct");
  check.require(
    debitAccountId === "" || debit !== undefined,
    "debit_account_id",
    "must be an account id (acct_…), or left out for any account",
  );
  check.done();
  return {
    sellCurrency,
    buyCurrency,
    fixed,
    amountMinorUnits,
    debitAccountId: debit === undefined ? undefined : debitAccountId,
    debitBucket: debit?.bucket,
  };
}

function toCommand(
  ctx: Context,
  { sellCurrency, buyCurrency, fixed, amountMinorUnits, debitAccountId }: ParsedQuote,
  bucket: number,
  caller: string,
  idempotencyKey: string,
): CreateQuoteCommand {
  const quoteId = ctx.newId("quot", bucket);
  const key = commandKey({
    bucket,
    caller,
    method: METHOD,
    key: idempotencyKey,
    fingerprint: canonicalHash([
      sellCurrency,
      buyCurrency,
      fixed,
      amountMinorUnits.toString(),
      debitAccountId ?? "anybody",
    ]),
    resourceUuid: idToUuid(quoteId),
    makes: "quot",
  });
  return {
    kind: "create_quote",
    key,
    name: key.text,
    weight: 1,
    accounts: [],
    quoteId,
    sellCurrency,
    buyCurrency,
    fixed,
    amountMinorUnits,
    debitAccountId,
  };
}
