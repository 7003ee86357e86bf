-- Writes the quotes that a batch has made, reserved, used or opened again.
create or replace function ledger.write_quotes(
  is_new boolean[], quote_ids uuid[], buckets smallint[], callers text[], debits uuid[], rates text[],
  sell_currencies text[], sells bigint[], buy_currencies text[], buys bigint[], residues bigint[],
  creation_times timestamptz[], expire_times timestamptz[], states text[], transfer_ids uuid[]
) returns void language plpgsql as $$
declare
  changed integer;
begin
  insert into ledger.quotes (quote_id, bucket, caller, debit_account_id, rate, sell_currency, sell_minor_units, buy_currency,
                             buy_minor_units, residue_minor_units, created_at, expire_time, state, transfer_id)
  select n.quote_id, n.bucket, n.caller, n.debit, n.rate, n.sell_currency, n.sell, n.buy_currency, n.buy, n.residue,
         n.created_at, n.expire_time, n.state, n.transfer_id
    from unnest(is_new, quote_ids, buckets, callers, debits, rates, sell_currencies, sells, buy_currencies, buys, residues,
                creation_times, expire_times, states, transfer_ids)
         n (is_new, quote_id, bucket, caller, debit, rate, sell_currency, sell, buy_currency, buy, residue, created_at,
            expire_time, state, transfer_id)
   where n.is_new;

  -- What is used stays so; the ledger has checked it under the lock, and this checks it again.
  update ledger.quotes q
     set state = n.state, transfer_id = n.transfer_id,
         reserved_at = case n.state when 'RESERVED' then clock_timestamp() end
    from unnest(is_new, quote_ids, states, transfer_ids) n (is_new, quote_id, state, transfer_id)
   where not n.is_new and q.quote_id = n.quote_id and q.state <> 'USED';
  get diagnostics changed = row_count;
  if changed <> cardinality(array_positions(is_new, false)) then
    raise exception 'a quote of this batch was used before';
  end if;
end $$;
