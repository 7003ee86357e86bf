import type { QueryResultRow } from "pg";
import { noteOffenders, type OffenderRow, offendersOf, type ShardReader, slicesOf } from "#cli/check-database.ts";
import { MAX_FINDINGS, type Notebook } from "#cli/check-findings.ts";

/** Invariants 1 and 2 of `ledgermesh check`: entries among themselves, and against the accounts. */

const PAGE_ENTRIES = 20_000;
const FIRST_UUID = "00000000-0000-0000-0000-000000000000";
const FIRST_KEY = [FIRST_UUID, "-infinity", "0"] as const;

/**
 * Invariant 1: per currency all entries sum to zero, and so do the debit and the credit of each posting: that names what is
 * lost, doubled or altered. Entries of one commit are seen together or not at all.
 * @param entries about how many there are
 */
export async function checkSums(reader: ShardReader, notebook: Notebook, entries: number): Promise<void> {
  const currencies = await reader.ask<{ currency: string; entries: string; sum: string }>({
    text: `select currency, count(*) as entries, sum(amount_minor_units) as sum from ledger.entries
            group by currency order by currency`,
  });
  for (const { currency, entries: count, sum } of currencies) {
    notebook.looked("entries", Number(count));
    if (sum !== "0") notebook.found({ reason: "CURRENCY_NOT_ZERO", ids: { currency }, expected: "0", found: sum });
  }
  notebook.looked("currencies", currencies.length);
  for (const slice of slicesOf("transfer_id", entries)) {
    const rows = await reader.ask<OffenderRow>({
      text: offendersOf(`
        select 'POSTING_NOT_BALANCED' as reason,
               json_build_object('transfer_id', transfer_id, 'posting_index', posting_index) as ids,
               'one debit, one credit, sum 0' as expected,
               debits || ' debit, ' || credits || ' credit, sum ' || sum
                 || case when several_currencies then ', several currencies' else '' end as found
          from (select transfer_id, posting_index, count(*) filter (where amount_minor_units < 0) as debits,
                       count(*) filter (where amount_minor_units > 0) as credits, sum(amount_minor_units) as sum,
                       min(currency) <> max(currency) as several_currencies
                  from ledger.entries where ${slice} group by transfer_id, posting_index) p
         where debits <> 1 or credits <> 1 or sum <> 0 or several_currencies`),
    });
    noteOffenders(notebook, rows);
  }
}

interface EntryPage extends QueryResultRow {
  readonly entries: number;
  readonly accounts: string;
  /** Where the next page begins; null: it was the last. */
  readonly next_account_id: string | null;
  readonly next_post_time: string;
  readonly next_sequence: string;
  readonly open_account_id: string;
  readonly offenders: OffenderRow[] | null;
  readonly offender_count: string;
}

/** Of each page but the first: they were in the one before. */
const KNOWN_ENTRIES = 2;

/**
 * Invariant 2, along the primary key of the entries, page by page: sequences go up by one, each `balance_after` is the one
 * before and the amount, times never fall; and where an account's entries end, they end with what its row says, read in the
 * same statement. A page begins with the last two entries of the page before, and leaves its own last account open for the
 * next page: an account that is being paid meanwhile is held against its row in the page where its entries end.
 * @param onProgress is told how many entries were looked at
 */
export async function checkBalances(
  reader: ShardReader,
  notebook: Notebook,
  onProgress: (entries: number) => void,
  pageEntries = PAGE_ENTRIES,
): Promise<void> {
  let start: readonly unknown[] | undefined = [...FIRST_KEY, FIRST_UUID, 0];
  while (start !== undefined) {
    const pages: EntryPage[] = await reader.ask<EntryPage>({
      name: "check-balances",
      text: PAGE_SQL,
      values: [...start, pageEntries],
    });
    const [page] = pages;
    if (page === undefined) return;
    notebook.looked("entries", page.entries);
    notebook.looked("accounts", Number(page.accounts));
    noteOffenders(
      notebook,
      (page.offenders ?? []).map((row) => ({ ...row, total: page.offender_count })),
    );
    onProgress(page.entries);
    const { next_account_id, next_post_time, next_sequence, open_account_id } = page;
    start =
      next_account_id === null
        ? undefined
        : [next_account_id, next_post_time, next_sequence, open_account_id, KNOWN_ENTRIES];
  }
}

/**
 * $1 to $3: where the page begins; $4: the account that is open; $5: how many entries are known; $6: how many there are at most.
 * Within a page entries go by their sequence, so that a time that falls is seen as such.
 */
const PAGE_SQL = `
with page as materialized (
  select account_id, post_time, sequence, amount_minor_units as amount, balance_after_minor_units as balance, currency,
         effective_time
    from ledger.entries where (account_id, post_time, sequence) >= ($1::uuid, $2::timestamptz, $3::bigint)
   order by account_id, post_time, sequence limit $6
), steps as (
  select *, row_number() over (order by account_id, post_time, sequence) > $5 as is_new,
         coalesce(lag(sequence) over account, 0) + 1 as next_sequence,
         coalesce(lag(balance) over account, 0)::numeric + amount as next_balance,
         case when sequence = 2 then 0 else lag(balance, 2) over account end::numeric + lag(amount) over account + amount
           as balance_over_two,
         lag(post_time) over account as post_time_before, lag(effective_time) over account as effective_time_before,
         lead(sequence) over account is null as is_last
    from page window account as (partition by account_id order by sequence, post_time)
), page_end as (
  select array_agg(account_id) as account_ids, array_agg(post_time) as post_times, array_agg(sequence) as sequences
    from (select * from page where (select count(*) from page) = $6
           order by account_id desc, post_time desc, sequence desc limit ${KNOWN_ENTRIES}) e
), open_account as (
  select account_ids[1] as account_id from page_end
), accounts as materialized (
  select account_id, currency, posted_minor_units as posted, entry_sequence, last_post_time, last_effective_time,
         account_id is not distinct from (select account_id from open_account) as is_open
    from ledger.accounts
   where account_id >= $4 and account_id <= coalesce((select account_id from open_account), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
), ends as (
  select a.*, coalesce(e.sequence, 0) as sequence, coalesce(e.balance, 0) as balance, e.post_time, e.effective_time
    from accounts a left join (select * from steps where is_last) e using (account_id) where not a.is_open
), offenders as (
  select case when sequence > next_sequence then 'ENTRY_MISSING' else 'SEQUENCE_WRONG' end as reason,
         json_build_object('account_id', account_id, 'sequence', least(sequence, next_sequence)) as ids,
         'sequence ' || next_sequence as expected, 'sequence ' || sequence as found
    from steps where is_new and sequence <> next_sequence
  union all
  select 'BALANCE_AFTER_WRONG', json_build_object('account_id', account_id, 'sequence', sequence),
         next_balance::text, balance::text
    from steps
   where is_new and sequence = next_sequence and balance <> next_balance
     -- One that is right again after a wrong one is not wrong.
     and balance is distinct from balance_over_two
  union all
  select 'POST_TIME_FALLS', json_build_object('account_id', account_id, 'sequence', sequence),
         'not before ' || post_time_before, post_time::text
    from steps where is_new and post_time < post_time_before
  union all
  -- What passes through transit keeps its own effective time.
  select 'EFFECTIVE_TIME_FALLS', json_build_object('account_id', account_id, 'sequence', sequence),
         'not before ' || effective_time_before, effective_time::text
    from steps s
   where is_new and effective_time < effective_time_before
     and not exists (select from ledger.accounts a where a.account_id = s.account_id and a.reference = 'system:transit')
  union all
  select 'CURRENCY_WRONG', json_build_object('account_id', account_id, 'sequence', e.sequence), a.currency, e.currency
    from steps e join accounts a using (account_id) where e.is_new and a.currency <> e.currency
  union all
  select 'ENTRY_WITHOUT_ACCOUNT', json_build_object('account_id', account_id, 'sequence', e.sequence), 'an account', 'none'
    from steps e left join accounts a using (account_id) where e.is_new and e.is_last and a.account_id is null
  union all
  select 'ENTRY_MISSING', json_build_object('account_id', account_id, 'sequence', sequence + 1),
         'entries up to sequence ' || entry_sequence, 'entries up to sequence ' || sequence
    from ends where sequence < entry_sequence
  union all
  select 'ENTRY_BEYOND_ACCOUNT', json_build_object('account_id', account_id, 'sequence', sequence),
         'entries up to sequence ' || entry_sequence, 'entries up to sequence ' || sequence
    from ends where sequence > entry_sequence
  union all
  select 'BALANCE_WRONG', json_build_object('account_id', account_id), balance::text, posted::text
    from ends where posted <> balance
  union all
  select 'LAST_TIMES_WRONG', json_build_object('account_id', account_id), post_time || ', ' || effective_time,
         last_post_time || ', ' || last_effective_time
    from ends
   where sequence = entry_sequence and (last_post_time <> post_time or last_effective_time <> effective_time)
)
select (select count(*) from steps where is_new)::integer as entries, (select count(*) from accounts where not is_open) as accounts,
       account_ids[${KNOWN_ENTRIES}] as next_account_id, post_times[${KNOWN_ENTRIES}]::text as next_post_time,
       sequences[${KNOWN_ENTRIES}] as next_sequence, account_ids[1] as open_account_id,
       (select json_agg(o) from (select * from offenders limit ${MAX_FINDINGS}) o) as offenders,
       (select count(*) from offenders) as offender_count
  from page_end`;
