-- The tables that are partitioned by month (UTC), and by which column: a time, or a UUIDv7 with the time inside. Each has the
-- partitions NAME_YYYYMM and NAME_default. A further table needs a line here and nothing else.
create or replace function ledger.monthly_tables() returns table (parent text, month_column text, by_id boolean)
language sql immutable as $$
  values ('entries', 'post_time', false),
         ('events', 'occurred_at', false),
         ('transfers', 'transfer_id', true),
         ('remote_legs', 'transfer_id', true),
         ('quotes', 'quote_id', true)
$$;
