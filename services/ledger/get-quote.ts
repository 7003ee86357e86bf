import type { Call } from "#lib/grpc-server.ts";
import { bucketOfUuid, parseId } from "#lib/ids.ts";
import { malformed } from "#lib/refusal.ts";
import { type GetQuoteRequest, type Quote, Quote_State } from "#proto/ledgermesh/ledger/v1/ledger.ts";
import type { Context } from "#services/ledger/context.ts";
import { type LockedQuote, QUOTE_COLUMNS, type QuoteRow, toLockedQuote } from "#services/ledger/quote.ts";
import { readShard } from "#services/ledger/read-shard.ts";
import { refusals } from "#services/ledger/refusals.ts";

export async function getQuote(ctx: Context, request: GetQuoteRequest, call: Call): Promise<Quote> {
  const parsed = parseId(request.quoteId, "quot");
  if (parsed === undefined) throw malformed([{ field: "quote_id", description: "must be a quote id (quot_…)" }]);
  const found = await readQuote(ctx, parsed.uuid);
  if (found === undefined || found.quote.caller !== call.caller) throw refusals.quoteNotFound(request.quoteId);
  return toQuote(found.quote, found.expired);
}

/** The quote as it is now, and whether its time is over by its shard's clock; undefined when there is none. */
export async function readQuote(
  ctx: Context,
  quoteUuid: string,
): Promise<{ quote: LockedQuote; expired: boolean } | undefined> {
  const [row] = await readShard<[expired: boolean, ...QuoteRow]>(ctx, bucketOfUuid(quoteUuid), {
    name: "get-quote",
    text: `select expire_time <= clock_timestamp(), ${QUOTE_COLUMNS} from ledger.quotes where quote_id = $1`,
    values: [quoteUuid],
  });
  if (row === undefined) return undefined;
  const [expired, ...columns] = row;
  return { quote: toLockedQuote(columns), expired };
}

/** A quote as the API answers it. */
export function toQuote(quote: LockedQuote, expired: boolean): Quote {
  return {
    quoteId: quote.quoteId,
    rate: quote.rate,
    sellCurrency: quote.sellCurrency,
    buyCurrency: quote.buyCurrency,
    sellMinorUnits: quote.sellMinorUnits,
    buyMinorUnits: quote.buyMinorUnits,
    residueMinorUnits: quote.residueMinorUnits,
    expireTime: new Date(quote.expireTimeMs),
    state: Quote_State[quote.state === "OPEN" && expired ? "EXPIRED" : quote.state],
    debitAccountId: quote.debitAccountId ?? "",
    transferId: quote.state === "USED" ? (quote.transferId ?? "") : "",
    createTime: new Date(quote.createdAtMs),
  };
}
