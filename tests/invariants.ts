import assert from "node:assert/strict";
import { parseId } from "#lib/ids.ts";
import { postgres, stack } from "#tests/stack.ts";

/**
 * What must hold on every shard at every instant (ARCHITECTURE.md, invariants 1 to 4). Throws what does not. Quick SQL, for
 * tests that ask often; `ledgermesh check` promises the same and more in other words, and walks along the whole log.
 */
export async function assertInvariants(): Promise<void> {
  for (const shard of stack.shards.keys()) {
    for (const [promise, sql] of Object.entries(OFFENDERS)) {
      const { rows } = await postgres(shard + 1).query(`${sql} limit 5`);
      assert.deepEqual(rows, [], `shard ${shard + 1}: ${promise}`);
    }
  }
  await assertQuotesAndConversions();
}

interface Quote {
  readonly quote_id: string;
  readonly transfer_id: string | null;
  readonly state: string;
  readonly terms: string;
}

interface Conversion {
  readonly transfer_id: string;
  readonly quote_id: string;
  readonly terms: string;
  /** Null when all of it was on one shard. */
  readonly decision: string | null;
}

/** Quote and transfer may be on two shards, and are read one after the other, while the system goes on. */
async function assertQuotesAndConversions(): Promise<void> {
  const usedBefore = (await readQuotes()).filter(({ state }) => state === "USED");
  const conversions = await readConversions();
  const quotes = new Map((await readQuotes()).map((quote) => [quote.quote_id, quote]));
  const transferOf = new Map(conversions.map((conversion) => [conversion.quote_id, conversion]));
  assert.equal(transferOf.size, conversions.length, "a quote was used twice");
  for (const quote of usedBefore) {
    const conversion = transferOf.get(quote.quote_id);
    assert.equal(conversion?.transfer_id, quote.transfer_id, `the transfer of the used quote ${quote.quote_id}`);
    assert.equal(conversion?.terms, quote.terms, `the amounts of quote ${quote.quote_id} and its transfer`);
  }
  for (const { transfer_id, quote_id, decision } of conversions) {
    const { transfer_id: user, state = "" } = quotes.get(quote_id) ?? {};
    assert.equal(user, transfer_id, `the quote of the conversion ${transfer_id}`);
    const possible = decision === "COMMITTED" ? ["RESERVED", "USED"] : ["USED"];
    assert.ok(possible.includes(state), `the quote ${quote_id} is ${state}, its transfer is ${decision ?? "whole"}`);
  }
}

async function readQuotes(): Promise<Quote[]> {
  const answers = await Promise.all(
    stack.shards.map((_, index) =>
      postgres(index + 1).query<Quote>(
        `select quote_id, transfer_id, state,
                concat_ws(' ', sell_minor_units, sell_currency, buy_minor_units, buy_currency,
                          case when residue_minor_units > 0 then residue_minor_units end) as terms
           from ledger.quotes`,
      ),
    ),
  );
  return answers.flatMap(({ rows }) => rows);
}

async function readConversions(): Promise<Conversion[]> {
  const answers = await Promise.all(
    stack.shards.map((_, index) =>
      postgres(index + 1).query<Conversion>(
        `select t.transfer_id, t.links ->> 'quote_id' as quote_id, d.state as decision,
                concat_ws(' ', postings -> 0 ->> 2, postings -> 0 ->> 3, postings -> 1 ->> 2, postings -> 1 ->> 3,
                          postings -> 2 ->> 2) as terms
           from ledger.transfers t left join ledger.decisions d using (transfer_id)
          where t.links ->> 'quote_id' is not null`,
      ),
    ),
  );
  return answers.flatMap(({ rows }) => rows.map((row) => ({ ...row, quote_id: parseId(row.quote_id)?.uuid ?? "" })));
}

/** SQL for the UUID in the text of an id. */
function uuidOf(id: string): string {
  const bits = `(select string_agg((strpos('0123456789abcdefghjkmnpqrstvwxyz', letter) - 1)::bit(5)::text, '' order by place)
                   from regexp_split_to_table(right(${id}, 26), '') with ordinality l (letter, place))`;
  return `(select string_agg(to_hex(substring(${bits} from 3 + 4 * nibble for 4)::bit(4)::integer), '' order by nibble)::uuid
             from generate_series(0, 31) nibble)`;
}

/** Each answers rows only where its promise is broken. */
const OFFENDERS: Readonly<Record<string, string>> = {
  "entries sum to zero per currency": `select currency, sum(amount_minor_units) from ledger.entries group by currency having sum(amount_minor_units) <> 0`,
  "an account's balance is the sum of its entries": `
    select a.account_id from ledger.accounts a left join ledger.entries e using (account_id)
     group by a.account_id having a.posted_minor_units <> coalesce(sum(e.amount_minor_units), 0)`,
  "an account's sequence has no gap": `
    select a.account_id from ledger.accounts a left join ledger.entries e using (account_id)
     group by a.account_id having count(e.sequence) <> a.entry_sequence or max(e.sequence) <> count(e.sequence)`,
  "no account is below its floor": `
    select account_id from ledger.accounts where posted_minor_units - held_minor_units < floor_minor_units`,
  "balance_after is the running sum, and neither time ever falls": `
    select * from (
      select account_id, sequence, balance_after_minor_units, post_time, effective_time,
             sum(amount_minor_units) over w as running, lag(post_time) over w as before,
             lag(effective_time) over w as effective_before
        from ledger.entries window w as (partition by account_id order by sequence)) e
     -- What passes through transit keeps its own effective time.
     where balance_after_minor_units <> running or post_time < before
        or (effective_time < effective_before and account_id not in
            (select account_id from ledger.accounts where reference = 'system:transit'))`,
  "event numbers are contiguous up to the head": `
    select * from (select count(*) as events, coalesce(max(number), 0) as last from ledger.events) e, ledger.shard_head h
     where e.events <> e.last or e.last <> h.sequence`,
  "a transfer has one event, and an event a transfer": `
    select t.event_number, e.number from ledger.transfers t
      full join (select * from ledger.events where type = 'transfer_posted') e on e.number = t.event_number
     where t.event_number is null or e.number is null`,
  "a transfer within the shard has two entries per posting": `
    select t.transfer_id from ledger.transfers t left join ledger.entries e using (transfer_id)
     where t.transfer_id not in (select transfer_id from ledger.decisions)
     group by t.transfer_id having count(*) <> 2 * json_array_length(t.postings)`,
  "a leg has two entries when it is posted, and else none": `
    select l.transfer_id, l.posting_index from ledger.remote_legs l
      left join ledger.entries e on (e.transfer_id, e.posting_index) = (l.transfer_id, l.posting_index)
     group by l.transfer_id, l.posting_index, l.bucket, l.state
    having count(e.sequence) <> case l.state when 'POSTED' then 2 else 0 end`,
  "room is kept for what is prepared, and for nothing else": `
    select a.account_id from ledger.accounts a
      left join ledger.remote_legs l on l.state = 'PREPARED' and l.currency = a.currency
     group by a.account_id
    having a.prepared_debit_minor_units <> coalesce(sum(l.amount_minor_units) filter (where
             case when l.debit_is_here then l.debit_account_id = a.account_id else a.reference = 'system:transit' end), 0)
        or a.prepared_credit_minor_units <> coalesce(sum(l.amount_minor_units) filter (where
             case when l.credit_is_here then l.credit_account_id = a.account_id else a.reference = 'system:transit' end), 0)`,
  "never more of a posting is taken back than it credited": `
    select transfer_id, posting_index from ledger.refunded_postings where refunded_minor_units > credited_minor_units`,
  "what is taken back of a posting is the sum of the reversals that say so": `
    select r.transfer_id, made.transfer_id, r.refunded_minor_units, made.refunded
      from ledger.refunded_postings r
      full join (
        select ${uuidOf("t.links ->> 'reverses_transfer_id'")} as transfer_id, taken.index::smallint as posting_index,
               sum((t.postings -> (taken.ordinal - 1)::integer ->> 2)::bigint) as refunded
          from ledger.transfers t,
               json_array_elements_text(t.links -> 'reverses_posting_indexes') with ordinality taken (index, ordinal)
         group by 1, 2) made using (transfer_id, posting_index)
     where r.refunded_minor_units is distinct from made.refunded`,
  "a reversal says of each of its postings which one it takes back": `
    select transfer_id from ledger.transfers where links ->> 'reverses_transfer_id' is not null
       and coalesce(json_array_length(links -> 'reverses_posting_indexes'), 0) <> json_array_length(postings)`,
  "a transfer is REVERSED exactly when every posting is wholly taken back": `
    select transfer_id from ledger.transfers
     where (state = 'REVERSED') <> (coalesce(cardinality(reversed_postings), 0) = json_array_length(postings))`,
  "a key has its transfer, its account, its event or its refusal": `
    select k.key from ledger.idempotency_keys k left join ledger.transfers t on t.transfer_id = k.resource_id
      left join ledger.accounts a on a.account_id = k.resource_id
     where num_nonnulls(t.transfer_id, a.account_id, k.event_number, k.refusal) <> 1`,
  "a closed account is empty, and nothing is under way to it": `
    select account_id from ledger.accounts where status = 'CLOSED'
       and (posted_minor_units <> 0 or held_minor_units <> 0
         or prepared_debit_minor_units <> 0 or prepared_credit_minor_units <> 0)`,
  "what is held of an account is what its open holds have left": `
    select a.account_id from ledger.accounts a
      left join ledger.holds h on h.debit_account_id = a.account_id and h.state = 'OPEN'
     group by a.account_id
    having a.held_minor_units <> coalesce(sum(h.amount_minor_units - h.captured_minor_units), 0)`,
  "what was captured of holds is what transfers took from them": `
    select * from
      (select coalesce(sum(captured_minor_units), 0) as captured from ledger.holds) h,
      (select coalesce(sum((postings->0->>2)::numeric), 0) as taken from ledger.transfers where links->>'hold_id' is not null) t
     where h.captured <> t.taken`,
  "every change of a hold has its event": `
    select * from (select coalesce(sum(version), 0) as changes from ledger.holds) h,
                  (select count(*) as events from ledger.events where type = 'hold_changed') e
     where h.changes <> e.events`,
};
