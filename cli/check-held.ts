import { noteOffenders, type OffenderRow, offendersOf, type ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";

/**
 * Invariant 3 of `ledgermesh check`: what is held of an account is what its open holds have left, and its available balance
 * is not below its floor. A hold and its account change in one commit, and one statement sees both.
 */
export async function checkHeld(reader: ShardReader, notebook: Notebook, accounts: number): Promise<void> {
  notebook.looked("accounts", accounts);
  const [counts] = await reader.ask<{ open_holds: string }>({
    text: "select count(*) as open_holds from ledger.holds where state = 'OPEN'",
  });
  notebook.looked("open holds", Number(counts?.open_holds ?? 0));
  const rows = await reader.ask<OffenderRow>({
    text: offendersOf(`
      select 'HELD_WRONG' as reason, json_build_object('account_id', account_id) as ids,
             coalesce(h.remaining, 0)::text as expected, coalesce(a.held_minor_units::text, 'no account') as found
        from ledger.accounts a
        full join (select debit_account_id as account_id, sum(amount_minor_units - captured_minor_units) as remaining
                     from ledger.holds where state = 'OPEN' group by debit_account_id) h using (account_id)
       where a.held_minor_units is distinct from coalesce(h.remaining, 0)
      union all
      select 'BELOW_FLOOR', json_build_object('account_id', account_id), 'at least ' || floor_minor_units || ' available',
             (posted_minor_units - held_minor_units)::text
        from ledger.accounts where posted_minor_units - held_minor_units < floor_minor_units`),
  });
  noteOffenders(notebook, rows);
}
