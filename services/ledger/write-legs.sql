-- Writes the legs that a batch has prepared, posted or released. Called after ledger.post_transfers in the same
-- transaction: the numbers of the batch's events are the last ones before the head.
create or replace function ledger.write_legs(
  event_count integer, is_new boolean[], transfer_ids uuid[], posting_indexes smallint[], buckets smallint[],
  debits uuid[], credits uuid[], debits_here boolean[], credits_here boolean[], amounts bigint[], currencies text[],
  types text[], memos text[], effective_times timestamptz[], states text[], balance_texts text[], event_ordinals integer[]
) returns void language plpgsql as $$
declare
  first_number bigint := (select sequence from ledger.shard_head) - event_count + 1;
begin
  insert into ledger.remote_legs (transfer_id, posting_index, bucket, debit_account_id, credit_account_id, debit_is_here,
                                  credit_is_here, amount_minor_units, currency, type, memo, effective_time, state, balances,
                                  event_number)
  select n.transfer_id, n.posting_index, n.bucket, n.debit, n.credit, n.debit_here, n.credit_here, n.amount, n.currency,
         n.type, n.memo, n.effective_time, n.state, n.balance::json, first_number + n.event_ordinal
    from unnest(is_new, transfer_ids, posting_indexes, buckets, debits, credits, debits_here, credits_here, amounts,
                currencies, types, memos, effective_times, states, balance_texts, event_ordinals)
         n (is_new, transfer_id, posting_index, bucket, debit, credit, debit_here, credit_here, amount, currency, type, memo,
            effective_time, state, balance, event_ordinal)
   where n.is_new;

  -- Only what is prepared may change; anything else would be a broken protocol.
  update ledger.remote_legs l
     set state = n.state, balances = n.balance::json, event_number = first_number + n.event_ordinal
    from unnest(is_new, transfer_ids, posting_indexes, buckets, states, balance_texts, event_ordinals)
         n (is_new, transfer_id, posting_index, bucket, state, balance, event_ordinal)
   where not n.is_new and l.state = 'PREPARED'
     and (l.transfer_id, l.posting_index, l.bucket) = (n.transfer_id, n.posting_index, n.bucket);
end $$;
