-- Adds market rates. One that is there already stays as it is.
create or replace function ledger.write_rates(
  pairs text[], as_ofs timestamptz[], spreads smallint[], bases text[], rates text[], quotes text[], callers text[]
) returns void language sql as $$
  insert into ledger.rates (pair, as_of, spread_bps, base, rate, quote, set_by)
  select * from unnest(pairs, as_ofs, spreads, bases, rates, quotes, callers)
  on conflict do nothing
$$;
