-- Adds an event to the shard's identity log and answers its number. The shard's head stays locked until the commit, so that
-- numbers are contiguous and in commit order: whatever else the transaction does comes before.
create or replace function identity.add_event(
  bucket smallint, aggregate_id text, aggregate_version bigint, type text, schema_version smallint, payload text
) returns bigint language sql as $$
  with head as (
    update identity.shard_head
       set sequence = sequence + 1, last_occurred_at = greatest(last_occurred_at, clock_timestamp())
    returning sequence, last_occurred_at
  )
  insert into identity.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
  select sequence, $1, $2, $3, $4, $5, $6, last_occurred_at from head
  returning number
$$;
