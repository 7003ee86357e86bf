-- Takes the idempotency keys of a batch, in the order given (callers sort them, so that two batches cannot deadlock).
-- Answers the texts of those that were free (command-key.ts). A key that another transaction is just taking is waited for.
create or replace function ledger.claim_keys(
  buckets smallint[], callers text[], methods text[], keys text[], fingerprints bytea[], resource_ids uuid[]
) returns setof text language sql as $$
  insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
  select * from unnest(buckets, callers, methods, keys, fingerprints, resource_ids)
  on conflict do nothing
  returning bucket || ' ' || caller || ' ' || method || ' ' || key
$$;
