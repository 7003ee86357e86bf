-- Reads accounts as `ledger.lock_accounts` does, and locks nothing.
create or replace function ledger.read_accounts(ids uuid[]) returns table (
  account_id uuid, owner_id text, currency text, kind text, status text,
  posted_minor_units bigint, held_minor_units bigint, floor_minor_units bigint,
  version bigint, entry_sequence bigint, last_post_time_ms double precision, last_effective_time_ms double precision,
  reference text, prepared_debit_minor_units bigint, prepared_credit_minor_units bigint
) language sql stable as $$
  select account_id, owner_id, currency, kind, status, posted_minor_units, held_minor_units, floor_minor_units,
         version, entry_sequence,
         extract(epoch from last_post_time) * 1000, extract(epoch from last_effective_time) * 1000, reference,
         prepared_debit_minor_units, prepared_credit_minor_units
    from ledger.accounts where account_id = any (ids)
$$;
