-- Makes the partition of a table for one month (a date within it) where it is missing. Safe to repeat.
-- One table a call, so that no transaction holds the locks of two. Where rows of that month have fallen into the default
-- partition already, the month stays with the default.
create or replace function ledger.create_month_partition(parent text, month date) returns void language plpgsql as $$
declare
  partition  text := 'ledger.' || parent || '_' || to_char(month, 'YYYYMM');
  month_from timestamptz := date_trunc('month', month::timestamp) at time zone 'UTC';
  month_to   timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') at time zone 'UTC';
begin
  if to_regclass(partition) is not null then return; end if;
  -- Transfers are partitioned by the time inside their id.
  execute format('create table %s partition of ledger.%I for values from (%L) to (%L)', partition, parent,
                 case parent when 'transfers' then ledger.first_id_of(month_from)::text else month_from::text end,
                 case parent when 'transfers' then ledger.first_id_of(month_to)::text else month_to::text end);
exception when check_violation then null;
end $$;
