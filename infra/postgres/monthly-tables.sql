-- The tables that are partitioned by month (UTC), and by which column: a time, or a UUIDv7 with the time inside. Each has the
-- partitions NAME_YYYYMM and NAME_default. A table of another schema than `ledger` has its schema with it. A further table needs a line
-- here and nothing else.
create or replace function ledger.monthly_tables() returns table (parent text, month_column text, by_id boolean)
language sql immutable as $$
  values ('entries', 'post_time', false),
         ('events', 'occurred_at', false),
         ('transfers', 'transfer_id', true),
         ('remote_legs', 'transfer_id', true),
         ('quotes', 'quote_id', true),
         ('identity.events', 'occurred_at', false)
$$;

-- The name of a monthly table with its schema.
create or replace function ledger.monthly_table_name(parent text) returns text language sql immutable as $$
  select case when strpos(parent, '.') > 0 then parent else 'ledger.' || parent end
$$;
