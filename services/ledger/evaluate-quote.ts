import { formatDecimal } from "#lib/decimal.ts";
import { buyFixed, quoteRate, sellFixed } from "#lib/exchange.ts";
import { Defect, type Refusal } from "#lib/refusal.ts";
import { addEvent, type Batch, type Evaluation } from "#services/ledger/batch.ts";
import type { CreateQuoteCommand } from "#services/ledger/command.ts";
import { encodeQuoteCreated } from "#services/ledger/encode-exchange.ts";
import { type LockedQuote, QUOTE_LIFETIME_MS, type QuoteClaim } from "#services/ledger/quote.ts";
import { type DatedRate, MAX_RATE_AGE_MS, pairOf } from "#services/ledger/rate.ts";
import { refusals } from "#services/ledger/refusals.ts";

/** Quotes: their states are at the top of quote.ts, their arithmetic is in lib/exchange.ts. */

/** Makes a quote from the rate that counts now. */
export function createQuote(command: CreateQuoteCommand, batch: Batch): Evaluation {
  const { quoteId, key, sellCurrency, buyCurrency, fixed, amountMinorUnits } = command;
  const market = batch.rates.get(pairOf(sellCurrency, buyCurrency));
  if (market === undefined) return refused(refusals.rateUnknown(sellCurrency, buyCurrency));
  if (isTooOld(market, batch)) {
    return refused(refusals.rateTooOld(sellCurrency, buyCurrency, new Date(market.asOfMs)));
  }
  const client = quoteRate(market, sellCurrency);
  const outcome = fixed === "sell" ? sellFixed(client, amountMinorUnits) : buyFixed(client, amountMinorUnits);
  switch (outcome.kind) {
    case "converts_to_zero":
      return refused(refusals.convertsToZero(amountMinorUnits, sellCurrency, buyCurrency));
    case "out_of_range":
      return refused(refusals.amountOutOfRange(amountMinorUnits, fixed === "sell" ? sellCurrency : buyCurrency));
    case "converted":
      break;
  }
  const quote: LockedQuote = {
    ...outcome.conversion,
    quoteId,
    quoteUuid: key.resourceUuid,
    bucket: key.bucket,
    caller: key.caller,
    debitAccountId: command.debitAccountId,
    rate: formatDecimal(client.rate),
    createdAtMs: batch.nowMs,
    expireTimeMs: batch.nowMs + QUOTE_LIFETIME_MS,
    state: "OPEN",
    transferId: undefined,
    row: "new",
  };
  batch.quotes.set(quoteId, quote);
  const event = addEvent(batch, {
    bucket: key.bucket,
    aggregateId: quoteId,
    aggregateVersion: 1n,
    type: "quote_created",
    payload: encodeQuoteCreated(quote),
  });
  return { kind: "done", answer: { kind: "quote", quote }, event };
}

function isTooOld({ asOfMs }: DatedRate, { nowMs }: Batch): boolean {
  return nowMs - asOfMs > MAX_RATE_AGE_MS;
}

function refused(refusal: Refusal): Evaluation {
  return { kind: "refused", refusal, remembered: true };
}

/**
 * Why a conversion may not have its quote; undefined when it may, or has it already. One that another conversion has
 * reserved may be open again in a moment: that is not remembered.
 */
export function refuseClaim(claim: QuoteClaim, batch: Batch): Extract<Evaluation, { kind: "refused" }> | undefined {
  const { quoteId, transferId, caller, debitAccountId } = claim;
  const quote = batch.quotes.get(quoteId);
  if (quote === undefined || quote.caller !== caller) {
    return { kind: "refused", refusal: refusals.quoteNotFound(quoteId), remembered: false };
  }
  if (quote.debitAccountId !== undefined && quote.debitAccountId !== debitAccountId) {
    return {
      kind: "refused",
      refusal: refusals.quoteForAnotherAccount(quoteId, quote.debitAccountId),
      remembered: true,
    };
  }
  if (quote.transferId === transferId) return undefined;
  switch (quote.state) {
    case "USED":
      return { kind: "refused", refusal: refusals.quoteUsed(quoteId), remembered: true };
    case "RESERVED":
      return { kind: "refused", refusal: refusals.quoteBusy(quoteId), remembered: false };
    case "OPEN":
      return batch.nowMs < quote.expireTimeMs
        ? undefined
        : { kind: "refused", refusal: refusals.quoteExpired(quoteId, new Date(quote.expireTimeMs)), remembered: true };
  }
}

/** Before the payer's shard decides; `refuseClaim` had nothing against it. Harmless when it is done twice. */
export function reserveQuote({ quoteId, transferId }: QuoteClaim, batch: Batch): void {
  const quote = lockedQuote(quoteId, batch);
  if (quote.transferId === transferId) return;
  change(quote, "RESERVED", transferId);
}

/** In the commit of the payer's shard, which is the quote's; `refuseClaim` had nothing against it. */
export function useOpenQuote({ quoteId, transferId }: QuoteClaim, batch: Batch): void {
  const quote = lockedQuote(quoteId, batch);
  if (quote.state !== "OPEN")
    throw new Defect(`the quote ${quoteId} is ${quote.state}, and ${transferId} was to use it`);
  change(quote, "USED", transferId);
}

/** The payer's shard has committed. Harmless when it is done twice. */
export function useReservedQuote(
  { quoteId, transferId }: Pick<QuoteClaim, "quoteId" | "transferId">,
  batch: Batch,
): void {
  const quote = lockedQuote(quoteId, batch);
  if (quote.transferId !== transferId) {
    throw new Defect(`${transferId} is committed, and has not reserved its quote ${quoteId} (${quote.state})`);
  }
  if (quote.state !== "USED") change(quote, "USED", transferId);
}

/** The payer's shard will never commit. Harmless when it is done twice, or for nothing. */
export function reopenQuote({ quoteId, transferId }: Pick<QuoteClaim, "quoteId" | "transferId">, batch: Batch): void {
  const quote = batch.quotes.get(quoteId);
  if (quote?.transferId !== transferId) return;
  if (quote.state === "USED") throw new Defect(`${transferId} has used ${quoteId}, and was to give it back`);
  change(quote, "OPEN", undefined);
}

function lockedQuote(quoteId: string, batch: Batch): LockedQuote {
  const quote = batch.quotes.get(quoteId);
  if (quote === undefined) throw new Defect(`the quote ${quoteId} is not there any more`);
  return quote;
}

function change(quote: LockedQuote, state: LockedQuote["state"], transferId: string | undefined): void {
  quote.state = state;
  quote.transferId = transferId;
  // A row of this same batch is written with its last state.
  if (quote.row === "unchanged") quote.row = "changed";
}
