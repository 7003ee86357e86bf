-- Opens accounts, with their keys and events, in one transaction; a refused one spoils no other. Inputs are sorted by key.
-- Answers one row per input, in order:
--   opened          the account was opened now
--   key_known       the key was used before: account_id, fingerprint and refusal are those of then
--   reference_used  another account of this owner has the reference: account_id is that one; the refusal is remembered
create or replace function ledger.open_accounts(
  expected_map_version integer,
  buckets smallint[], callers text[], methods text[], keys text[], fingerprints bytea[], account_ids uuid[],
  owner_ids text[], currencies text[], kinds text[], floors bigint[], reference_names text[], metadatas text[],
  aggregate_ids text[], payloads text[]
) returns table (outcome text, account_id uuid, fingerprint bytea, refusal json, event_number bigint)
language plpgsql as $$
#variable_conflict use_column
declare
  head    ledger.shard_head;
  claimed uuid[];
  opened  uuid[];
begin
  with c as (
    insert into ledger.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
    select * from unnest(buckets, callers, methods, keys, fingerprints, account_ids)
    on conflict do nothing returning resource_id
  ) select coalesce(array_agg(resource_id), '{}') into claimed from c;

  with o as (
    insert into ledger.accounts (account_id, bucket, owner_id, opened_by, currency, kind, status, floor_minor_units,
                                 reference, metadata)
    select n.account_id, n.bucket, n.owner_id, n.caller, n.currency, n.kind, 'ACTIVE', n.floor, n.reference, n.metadata::json
      from unnest(account_ids, buckets, owner_ids, callers, currencies, kinds, floors, reference_names, metadatas)
           n (account_id, bucket, owner_id, caller, currency, kind, floor, reference, metadata)
     where n.account_id = any (claimed)
     -- In the order of the unique index, so that two ledgers cannot deadlock on it.
     order by case when n.owner_id = '' then n.caller else n.owner_id end, n.reference
    on conflict do nothing returning account_id
  ) select coalesce(array_agg(account_id), '{}') into opened from o;

  update ledger.idempotency_keys k
     set refusal = json_build_object(
           'status', 'FAILED_PRECONDITION', 'reason', 'REFERENCE_ALREADY_USED',
           'message', format('The owner has another account with the reference "%s".', n.reference),
           'metadata', json_build_object('reference', n.reference))
    from unnest(buckets, callers, methods, keys, account_ids, reference_names)
         n (bucket, caller, method, key, account_id, reference)
   where n.account_id = any (claimed) and not n.account_id = any (opened)
     and (k.bucket, k.caller, k.method, k.key) = (n.bucket, n.caller, n.method, n.key);

  update ledger.shard_head
     set sequence = sequence + cardinality(opened), last_occurred_at = greatest(last_occurred_at, clock_timestamp())
  returning * into head;
  if head.map_version <> expected_map_version then
    raise exception 'the bucket map is at version %, not %', head.map_version, expected_map_version
      using errcode = 'LM001';
  end if;

  with numbered as (
    select n.*, head.sequence - cardinality(opened) + row_number() over (order by n.ordinal) as number
      from unnest(account_ids, buckets, aggregate_ids, payloads) with ordinality n (account_id, bucket, aggregate_id, payload, ordinal)
     where n.account_id = any (opened)
  ), written as (
    insert into ledger.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
    select number, bucket, aggregate_id, 1, 'account_created', 1, payload, head.last_occurred_at from numbered
  )
  update ledger.accounts a set open_event_number = n.number from numbered n where a.account_id = n.account_id;

  return query
  select case when n.account_id = any (opened) then 'opened'
              when n.account_id = any (claimed) then 'reference_used'
              else 'key_known' end,
         case when n.account_id = any (opened) then n.account_id
              when not n.account_id = any (claimed) then k.resource_id
              when n.reference like 'system:%' then
                (select s.account_id from ledger.accounts s
                  where s.reference = n.reference and s.currency = n.currency and s.reference like 'system:%')
              else
                (select o.account_id from ledger.accounts o
                  where (case when o.owner_id = '' then o.opened_by else o.owner_id end)
                      = (case when n.owner_id = '' then n.caller else n.owner_id end)
                    and o.reference = n.reference and o.reference <> '' and o.reference not like 'system:%')
         end,
         k.fingerprint, k.refusal, a.open_event_number
    from unnest(account_ids, buckets, callers, methods, keys, owner_ids, reference_names, currencies)
         with ordinality n (account_id, bucket, caller, method, key, owner_id, reference, currency, ordinal)
    join ledger.idempotency_keys k
      on (k.bucket, k.caller, k.method, k.key) = (n.bucket, n.caller, n.method, n.key)
    left join ledger.accounts a on a.account_id = k.resource_id
   order by n.ordinal;
end $$;
