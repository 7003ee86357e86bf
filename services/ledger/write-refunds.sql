-- Writes what a batch has taken back of earlier postings. Their credited accounts are locked by the caller.
create or replace function ledger.write_refunds(
  transfer_ids uuid[], posting_indexes smallint[], buckets smallint[], credited_amounts bigint[],
  refunded_amounts bigint[], states text[]
) returns void language sql as $$
  insert into ledger.refunded_postings as r (transfer_id, posting_index, bucket, credited_minor_units, refunded_minor_units,
                                             state, exhausted_at)
  select n.transfer_id, n.posting_index, n.bucket, n.credited, n.refunded, n.state,
         case when n.state <> 'PARTIAL' then clock_timestamp() end
    from unnest(transfer_ids, posting_indexes, buckets, credited_amounts, refunded_amounts, states)
         n (transfer_id, posting_index, bucket, credited, refunded, state)
      on conflict (transfer_id, posting_index) do update
     set refunded_minor_units = excluded.refunded_minor_units, state = excluded.state,
         exhausted_at = coalesce(r.exhausted_at, excluded.exhausted_at)
   -- What is noted is final.
   where r.state <> 'NOTED';
$$;
