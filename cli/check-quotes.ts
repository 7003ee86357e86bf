import type { QueryResultRow } from "pg";
import { type Cut, uuidCache } from "#cli/check-cut.ts";
import type { ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { bucketOfUuid, uuidToId } from "#lib/ids.ts";
import { plainArray } from "#lib/sql-arrays.ts";

/**
 * Of invariant 5 of `ledgermesh check`: a quote is used by one conversion, and a conversion has one quote. They may be on
 * different shards; a quote is reserved before the payer's shard commits, and used afterwards (docs/decisions/0012-exchange.md).
 * So whoever has seen a used quote must then find its conversion; and whoever has seen a conversion must then find
 * its quote, used, or reserved as long as the decision was not closed.
 */
export async function checkQuotes(
  reader: ShardReader,
  cut: Cut,
  others: ReadonlyMap<number, ShardReader>,
  notebook: Notebook,
): Promise<void> {
  const uuidOf = uuidCache();
  await forEachPage(
    (after) =>
      reader.ask<QuoteRow>({
        name: "check-used-quotes",
        text: `${QUOTE_SQL} where state = 'USED' and quote_id > $1 order by quote_id limit ${PAGE_ROWS}`,
        values: [after],
      }),
    ({ quote_id }) => quote_id,
    async (quotes) => {
      notebook.looked("used quotes", quotes.length);
      await elsewhere(
        quotes,
        ({ transfer_id }) => transfer_id ?? FIRST_UUID,
        readConversions,
        (quote, conversions) => {
          const conversion = conversions.get(quote.transfer_id ?? "");
          if (conversion !== undefined && uuidOf(conversion.quote) === quote.quote_id) return;
          const ids = {
            quote_id: uuidToId("quot", quote.quote_id),
            transfer_id: uuidToId("xfer", quote.transfer_id ?? FIRST_UUID),
          };
          const found = conversion === undefined ? "no conversion" : `one that used ${conversion.quote}`;
          notebook.found({ reason: "QUOTE_WITHOUT_CONVERSION", ids, expected: "the conversion that used it", found });
        },
      );
    },
  );
  await forEachPage(
    (after) =>
      reader.ask<ConversionRow>({
        name: "check-conversions",
        text: `${CONVERSION_SQL} where t.links ->> 'quote_id' is not null and t.transfer_id > $1
                order by t.transfer_id limit ${PAGE_ROWS}`,
        values: [after],
      }),
    ({ transfer_id }) => transfer_id,
    async (conversions) => {
      notebook.looked("conversions", conversions.length);
      await elsewhere(
        conversions,
        ({ quote }) => uuidOf(quote),
        readQuotes,
        (conversion, quotes) => {
          checkConversion(conversion, quotes.get(uuidOf(conversion.quote)));
        },
      );
    },
  );

  function checkConversion({ transfer_id, quote: quoteId, decision, terms }: ConversionRow, quote?: QuoteRow): void {
    const ids = { transfer_id: uuidToId("xfer", transfer_id), quote_id: quoteId };
    const note = (reason: string, expected: string, found: string) => notebook.found({ reason, ids, expected, found });
    const mayBeReserved = decision === "COMMITTED";
    if (quote === undefined) note("CONVERSION_WITHOUT_QUOTE", "its quote", "none");
    else if (quote.transfer_id !== transfer_id) {
      const found = quote.transfer_id === null ? quote.state : `used by ${uuidToId("xfer", quote.transfer_id)}`;
      note("QUOTE_NOT_ITS_OWN", "used by this conversion", found);
    } else if (quote.state !== "USED" && !mayBeReserved) note("QUOTE_NOT_USED", "USED", quote.state);
    else if (quote.terms !== terms) note("CONVERSION_UNLIKE_QUOTE", quote.terms, terms);
  }

  /** Looks things up on the shards where they are, once they were seen here. */
  async function elsewhere<Row, Found>(
    rows: readonly Row[],
    uuidFor: (row: Row) => string,
    read: (other: ShardReader, uuids: readonly string[]) => Promise<Map<string, Found>>,
    compare: (row: Row, found: ReadonlyMap<string, Found>) => void,
  ): Promise<void> {
    for (const [shard, there] of Map.groupBy(rows, (row) => cut.shardOf[bucketOfUuid(uuidFor(row))] ?? 0)) {
      const other = others.get(shard);
      if (other === undefined) {
        notebook.couldNot(`shard ${shard} cannot be asked`);
        continue;
      }
      const found = await read(other, there.map(uuidFor));
      for (const row of there) compare(row, found);
    }
  }
}

const PAGE_ROWS = 1_000;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";

interface QuoteRow extends QueryResultRow {
  readonly quote_id: string;
  readonly transfer_id: string | null;
  readonly state: string;
  /** Both amounts with their currencies, and the residue if there is one. */
  readonly terms: string;
}

interface ConversionRow extends QueryResultRow {
  readonly transfer_id: string;
  /** As the API has it. */
  readonly quote: string;
  readonly decision: string | null;
  readonly terms: string;
}

const QUOTE_SQL = `
  select quote_id, transfer_id, state,
         concat_ws(' ', sell_minor_units, sell_currency, buy_minor_units, buy_currency, nullif(residue_minor_units, 0)) as terms
    from ledger.quotes`;

/** The decision is read with the transfer, before its quote. */
const CONVERSION_SQL = `
  select t.transfer_id, t.links ->> 'quote_id' as quote, d.state as decision,
         concat_ws(' ', t.postings -> 0 ->> 2, t.postings -> 0 ->> 3, t.postings -> 1 ->> 2, t.postings -> 1 ->> 3,
                   t.postings -> 2 ->> 2) as terms
    from ledger.transfers t left join ledger.decisions d using (transfer_id)`;

async function readQuotes(reader: ShardReader, uuids: readonly string[]): Promise<Map<string, QuoteRow>> {
  const text = `${QUOTE_SQL} where quote_id = any ($1)`;
  const rows = await reader.ask<QuoteRow>({ name: "check-quotes", text, values: [plainArray(uuids)] });
  return new Map(rows.map((row) => [row.quote_id, row]));
}

async function readConversions(reader: ShardReader, uuids: readonly string[]): Promise<Map<string, ConversionRow>> {
  const text = `${CONVERSION_SQL} where t.transfer_id = any ($1) and t.links ->> 'quote_id' is not null`;
  const rows = await reader.ask<ConversionRow>({ name: "check-conversions-of", text, values: [plainArray(uuids)] });
  return new Map(rows.map((row) => [row.transfer_id, row]));
}

async function forEachPage<Row>(
  read: (after: string) => Promise<Row[]>,
  keyOf: (row: Row) => string,
  take: (rows: readonly Row[]) => Promise<void>,
): Promise<void> {
  for (let after = FIRST_UUID; ; ) {
    const rows = await read(after);
    await take(rows);
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) return;
    after = keyOf(last);
  }
}
