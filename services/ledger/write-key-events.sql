-- Notes with the keys of commands that made no transfer which event was theirs. Called after ledger.post_transfers.
create or replace function ledger.write_key_events(
  event_count integer, buckets smallint[], callers text[], methods text[], keys text[], event_ordinals integer[]
) returns void language sql as $$
  update ledger.idempotency_keys k
     set event_number = (select sequence from ledger.shard_head) - event_count + 1 + n.event_ordinal
    from unnest(buckets, callers, methods, keys, event_ordinals) n (bucket, caller, method, key, event_ordinal)
   where (k.bucket, k.caller, k.method, k.key) = (n.bucket, n.caller, n.method, n.key)
$$;
