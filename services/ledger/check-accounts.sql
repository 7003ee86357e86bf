-- Raises LM002 unless these accounts are as they were when a batch was decided. For accounts that it does not change.
create or replace function ledger.check_accounts(
  ids uuid[], versions bigint[], prepared_debits bigint[], prepared_credits bigint[]
) returns void language plpgsql as $$
begin
  if (select count(*) from unnest(ids, versions, prepared_debits, prepared_credits)
                           n (id, version, prepared_debit, prepared_credit)
        join ledger.accounts a on a.account_id = n.id
       where (a.version, a.prepared_debit_minor_units, a.prepared_credit_minor_units)
             = (n.version, n.prepared_debit, n.prepared_credit)) <> cardinality(ids) then
    perform ledger.refuse_assumption('an account has changed');
  end if;
end $$;
