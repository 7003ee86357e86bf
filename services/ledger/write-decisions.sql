-- Writes the decisions that a batch has made or closed. A decision that another transaction has made meanwhile is a unique
-- violation, which undoes the batch; its next try reads that decision.
create or replace function ledger.write_decisions(
  is_new boolean[], transfer_ids uuid[], buckets smallint[], states text[]
) returns void language sql as $$
  insert into ledger.decisions (transfer_id, bucket, state)
  select n.transfer_id, n.bucket, n.state
    from unnest(is_new, transfer_ids, buckets, states) n (is_new, transfer_id, bucket, state)
   where n.is_new;
  update ledger.decisions d set state = n.state
    from unnest(is_new, transfer_ids, states) n (is_new, transfer_id, state)
   where not n.is_new and d.transfer_id = n.transfer_id and d.state = 'COMMITTED';
$$;
