-- Writes the holds that a batch has made or changed. Their rows are locked; only what is open may change, anything else
-- would be a defect.
create or replace function ledger.write_holds(
  is_new boolean[], hold_ids uuid[], buckets smallint[], debits uuid[], credits uuid[], amounts bigint[],
  captured bigint[], currencies text[], states text[], versions bigint[], expire_times timestamptz[],
  create_times timestamptz[]
) returns void language plpgsql as $$
declare
  changed bigint;
begin
  insert into ledger.holds (hold_id, bucket, debit_account_id, credit_account_id, amount_minor_units, captured_minor_units,
                            currency, state, version, expire_time, create_time)
  select n.hold_id, n.bucket, n.debit, n.credit, n.amount, n.captured, n.currency, n.state, n.version, n.expire_time,
         n.create_time
    from unnest(is_new, hold_ids, buckets, debits, credits, amounts, captured, currencies, states, versions, expire_times,
                create_times)
         n (is_new, hold_id, bucket, debit, credit, amount, captured, currency, state, version, expire_time, create_time)
   where n.is_new;

  update ledger.holds h
     set captured_minor_units = n.captured, state = n.state, version = n.version
    from unnest(is_new, hold_ids, captured, states, versions) n (is_new, hold_id, captured, state, version)
   where not n.is_new and h.hold_id = n.hold_id and h.state = 'OPEN' and h.version < n.version;
  get diagnostics changed = row_count;
  if changed <> (select count(*) from unnest(is_new) n (is_new) where not n.is_new) then
    raise exception 'a hold that is not open, or that is newer, was to be changed';
  end if;
end $$;
