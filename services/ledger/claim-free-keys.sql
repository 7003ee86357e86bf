-- Takes the idempotency keys of a batch that counts on all of them being free, in the order given (callers sort them, so that
-- two batches cannot deadlock). Raises LM002 when one was used before.
create or replace function ledger.claim_free_keys(
  buckets smallint[], callers text[], methods text[], keys text[], fingerprints bytea[], resource_ids uuid[]
) returns void language plpgsql as $$
declare
  claimed bigint;
begin
  insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
  select * from unnest(buckets, callers, methods, keys, fingerprints, resource_ids)
  on conflict do nothing;
  get diagnostics claimed = row_count;
  if claimed <> cardinality(keys) then perform ledger.refuse_assumption('a key was used before'); end if;
end $$;
