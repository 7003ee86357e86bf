-- Month partitions, made ahead by migrate.ts and by every ledger process (services/ledger/maintenance.ts). What is locked
-- when, and why, is in docs/maintenance.md.

-- The partitions that are missing: of this month and the next three (months_ahead 0 to 3), and of months, past ones too,
-- whose rows have fallen into the default partition. A large default partition is not looked into.
create or replace function ledger.due_month_partitions() returns table (parent text, month date, months_ahead integer)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  last_month_ahead  constant integer := 3;
  max_default_bytes constant bigint := 4 * 1024 * 1024;
  this_month        constant timestamp := date_trunc('month', now() at time zone 'UTC');
  t                 record;
  months            date[];
begin
  for t in select * from ledger.monthly_tables() m where to_regclass(ledger.monthly_table_name(m.parent)) is not null loop
    months := '{}';
    if pg_relation_size(to_regclass(ledger.monthly_table_name(t.parent) || '_default')) <= max_default_bytes then
      execute format($q$
        select coalesce(array_agg(distinct date_trunc('month', %s at time zone 'UTC')::date), '{}') from %s_default
      $q$, case when t.by_id then format('uuid_extract_timestamp(%I)', t.month_column) else quote_ident(t.month_column) end,
           ledger.monthly_table_name(t.parent)) into months;
    end if;
    return query
    select t.parent, m.month,
           (extract(year from m.month) * 12 + extract(month from m.month)
            - extract(year from this_month) * 12 - extract(month from this_month))::integer
      from (select (this_month + make_interval(months => ahead))::date as month
              from generate_series(0, last_month_ahead) ahead
            union select unnest(months)) m
     where m.month is not null
       and to_regclass(format('%s_%s', ledger.monthly_table_name(t.parent), to_char(m.month, 'YYYYMM'))) is null;
  end loop;
end $$;

-- Makes one partition (the month of a date) and moves the month's rows from the default partition into it. Answers
--   created            with the number of rows that were moved
--   exists             it was there
--   busy               a lock was not to be had at once, or another session makes one: try again later
--   default_too_large  the default partition holds more bytes than may be looked through and moved under a lock
-- One partition a transaction, so that nobody holds the locks of two tables.
create or replace function ledger.make_month_partition(
  parent text, month date, max_default_bytes bigint default 4 * 1024 * 1024
) returns table (outcome text, moved_rows bigint)
-- Shorter than deadlock_timeout, and than anything a payment waits for: whoever queues behind us goes on soon.
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
#variable_conflict use_column
declare
  maintenance_lock   constant bigint := 7236004;
  -- Clocks may differ; nobody dates anything so far ahead.
  nobody_writes_from constant timestamptz := now() + interval '1 day';
  t           record;
  whole       text;
  partition   text;
  fallen      text;
  month_from  timestamptz := date_trunc('month', make_month_partition.month::timestamp) at time zone 'UTC';
  month_to    timestamptz := (date_trunc('month', make_month_partition.month::timestamp) + interval '1 month') at time zone 'UTC';
  range_from  text;
  range_to    text;
  in_month    text;
  has_rows    boolean;
  moved       bigint := 0;
begin
  select * into strict t from ledger.monthly_tables() m where m.parent = make_month_partition.parent;
  whole := ledger.monthly_table_name(t.parent);
  partition := format('%s_%s', whole, to_char(month_from at time zone 'UTC', 'YYYYMM'));
  fallen := whole || '_default';
  range_from := case when t.by_id then ledger.first_id_of(month_from)::text else month_from::text end;
  range_to := case when t.by_id then ledger.first_id_of(month_to)::text else month_to::text end;
  in_month := format('%1$I >= %2$L and %1$I < %3$L', t.month_column, range_from, range_to);

  if not pg_try_advisory_xact_lock(maintenance_lock) then return query values ('busy', 0::bigint); return; end if;
  if to_regclass(partition) is not null then return query values ('exists', 0::bigint); return; end if;
  if pg_relation_size(fallen) > max_default_bytes then return query values ('default_too_large', 0::bigint); return; end if;
  execute format('select exists (select from %s where %s)', fallen, in_month) into has_rows;

  begin
    execute format('create table %s (like %s including all)', partition, whole);
    -- In a month that is being written, a statement may have chosen the default partition and wait for its lock: it would be
    -- refused by the default's new bounds. So nobody may be between choosing and writing.
    execute format('lock table only %s in %s mode', whole,
                   case when has_rows or month_from < nobody_writes_from then 'access exclusive'
                        else 'share update exclusive' end);
    execute format('lock table %s in access exclusive mode', fallen);
    if has_rows or month_from < nobody_writes_from then
      execute format('with moved as (delete from %s where %s returning *) insert into %s select * from moved',
                     fallen, in_month, partition);
      get diagnostics moved = row_count;
    end if;
    execute format('alter table %s attach partition %s for values from (%L) to (%L)',
                   whole, partition, range_from, range_to);
  exception
    when lock_not_available then return query values ('busy', 0::bigint); return;
    -- A row of a month that nobody should write yet, since we looked: next time it is seen.
    when check_violation then return query values ('busy', 0::bigint); return;
  end;
  return query values ('created', moved);
end $$;

-- What the ledger may do: make a partition that is due. It has no other right to change tables.
create or replace function ledger.make_due_month_partition(parent text, month date)
returns table (outcome text, moved_rows bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  if not exists (select from ledger.due_month_partitions() d
                  where d.parent = make_due_month_partition.parent and d.month = make_due_month_partition.month) then
    return query values ('exists', 0::bigint);
    return;
  end if;
  return query select * from ledger.make_month_partition(make_due_month_partition.parent, make_due_month_partition.month);
end $$;

revoke execute on function ledger.make_month_partition, ledger.make_due_month_partition, ledger.due_month_partitions from public;
grant execute on function ledger.make_due_month_partition, ledger.due_month_partitions to ledger;
