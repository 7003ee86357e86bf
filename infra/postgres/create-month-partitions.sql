-- Makes the partitions of one month (a date within it) where they are missing. Safe to repeat.
-- Where rows of that month have fallen into the default partition already, the month stays with the default.
create or replace function ledger.create_month_partitions(month date) returns void language plpgsql as $$
declare
  suffix     text := to_char(month, 'YYYYMM');
  month_from timestamptz := date_trunc('month', month::timestamp) at time zone 'UTC';
  month_to   timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') at time zone 'UTC';
begin
  if to_regclass('ledger.entries_' || suffix) is null then
    begin
      execute format('create table ledger.entries_%s partition of ledger.entries for values from (%L) to (%L)',
                     suffix, month_from, month_to);
    exception when check_violation then null;
    end;
  end if;
  if to_regclass('ledger.events_' || suffix) is null then
    begin
      execute format('create table ledger.events_%s partition of ledger.events for values from (%L) to (%L)',
                     suffix, month_from, month_to);
    exception when check_violation then null;
    end;
  end if;
  if to_regclass('ledger.transfers_' || suffix) is null then
    begin
      execute format('create table ledger.transfers_%s partition of ledger.transfers for values from (%L) to (%L)',
                     suffix, ledger.first_id_of(month_from), ledger.first_id_of(month_to));
    exception when check_violation then null;
    end;
  end if;
end $$;
