import { idSlicesOf, noteOffenders, type OffenderRow, offendersOf, type ShardReader } from "#cli/check-database.ts";
import type { Notebook } from "#cli/check-findings.ts";
import { idToUuid, uuidToId } from "#lib/ids.ts";

/**
 * Invariant 3 of `ledgermesh check`: what is held of an account is what its open holds have left, what holds say was captured
 * is what transfers took, and what is available is not below the floor. A hold, its account and a capture change in one
 * commit, and one statement sees all of them.
 */
export async function checkHeld(reader: ShardReader, notebook: Notebook, accounts: number): Promise<void> {
  notebook.looked("accounts", accounts);
  const [counts] = await reader.ask<{ holds: string; open: string }>({
    text: "select count(*) as holds, count(*) filter (where state = 'OPEN') as open from ledger.holds",
  });
  const holds = Number(counts?.holds ?? 0);
  notebook.looked("holds", holds);
  notebook.looked("open ones", Number(counts?.open ?? 0));
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
        from ledger.accounts where posted_minor_units - held_minor_units < floor_minor_units
      union all
      select 'CLOSED_NOT_EMPTY', json_build_object('account_id', account_id), 'nothing',
             concat_ws(', ', posted_minor_units, held_minor_units, prepared_debit_minor_units, prepared_credit_minor_units)
        from ledger.accounts
       where status = 'CLOSED' and (posted_minor_units <> 0 or held_minor_units <> 0
                                 or prepared_debit_minor_units <> 0 or prepared_credit_minor_units <> 0)`),
  });
  noteOffenders(notebook, rows);
  for (const { ofText, ofUuid } of idSlicesOf(holds)) {
    const captured = await reader.ask<{ hold_uuid: string | null; hold_id: string; amount: string }>({
      text: `select null as hold_uuid, t.links ->> 'hold_id' as hold_id, sum((t.postings -> 0 ->> 2)::bigint) as amount
               from ledger.transfers t where t.links ->> 'hold_id' is not null and ${ofText("t.links ->> 'hold_id'")} group by 2
              union all
             select hold_id, null, captured_minor_units from ledger.holds where captured_minor_units > 0 and ${ofUuid("hold_id")}`,
    });
    const taken = new Map<string, string>();
    for (const { hold_uuid, hold_id, amount } of captured) if (hold_uuid === null) taken.set(idToUuid(hold_id), amount);
    const found = new Map<string, string>();
    for (const { hold_uuid, amount } of captured) if (hold_uuid !== null) found.set(hold_uuid, amount);
    for (const uuid of new Set([...taken.keys(), ...found.keys()])) {
      const [expected = "0", says = "0"] = [taken.get(uuid), found.get(uuid)];
      if (expected === says) continue;
      notebook.found({ reason: "CAPTURED_WRONG", ids: { hold_id: uuidToId("hold", uuid) }, expected, found: says });
    }
  }
}
