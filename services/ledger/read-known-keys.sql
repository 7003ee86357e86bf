-- What became of commands whose keys were taken before: the fingerprint of the first request, its refusal, its transfer, or
-- what else it made.
create or replace function ledger.read_known_keys(buckets smallint[], callers text[], methods text[], keys text[])
returns table (
  bucket smallint, caller text, method text, key text, fingerprint bytea, resource_id uuid, refusal json,
  event_number bigint, state text, type text, memo text, metadata json, postings json, balances json,
  post_time_ms double precision, effective_time_ms double precision, links json
) language sql as $$
  select k.bucket, k.caller, k.method, k.key, k.fingerprint, k.resource_id, k.refusal,
         coalesce(t.event_number, k.event_number), t.state, t.type, t.memo, t.metadata, t.postings, t.balances,
         extract(epoch from t.post_time) * 1000, extract(epoch from t.effective_time) * 1000, t.links
    from unnest(buckets, callers, methods, keys) wanted (bucket, caller, method, key)
    join ledger.idempotency_keys k using (bucket, caller, method, key)
    left join ledger.transfers t on t.transfer_id = k.resource_id
$$;
