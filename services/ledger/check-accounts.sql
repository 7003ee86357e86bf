-- Raises LM002 unless these accounts are as they were taken to be when a batch was decided. For accounts that it does not change.
create or replace function ledger.check_accounts(
  ids uuid[], posted bigint[], held bigint[], prepared_debits bigint[], prepared_credits bigint[], statuses text[],
  versions bigint[], sequences bigint[], post_times timestamptz[], effective_times timestamptz[]
) returns void language plpgsql as $$
begin
  if (select count(*) from unnest(ids, posted, held, prepared_debits, prepared_credits, statuses, versions, sequences,
                                  post_times, effective_times)
                           n (id, posted, held, prepared_debit, prepared_credit, status, version, sequence, post_time,
                              effective_time)
        join ledger.accounts a on a.account_id = n.id
       where (a.posted_minor_units, a.held_minor_units, a.prepared_debit_minor_units, a.prepared_credit_minor_units,
              a.status, a.version, a.entry_sequence, a.last_post_time, a.last_effective_time)
             = (n.posted, n.held, n.prepared_debit, n.prepared_credit, n.status, n.version, n.sequence, n.post_time,
                n.effective_time)) <> cardinality(ids) then
    perform ledger.refuse_assumption('an account has changed');
  end if;
end $$;
