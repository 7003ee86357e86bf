-- The raw line: what Postgres alone does when a transfer is one function call. The tables are those of the ledger, cloned
-- with their partitions, indexes, checks and storage settings, so that both write the same rows.
-- Made anew by each run of the bench.
drop schema if exists bench_raw cascade;
create schema bench_raw;

do $$
declare
  source    record;
  partition record;
begin
  for source in
    select c.oid, c.relname, pg_get_partkeydef(c.oid) as partition_key, array_to_string(c.reloptions, ', ') as options
      from pg_class c
     where c.relnamespace = 'ledger'::regnamespace and not c.relispartition
       and c.relname in ('shard_head', 'accounts', 'transfers', 'entries', 'events', 'idempotency_keys')
  loop
    execute format('create table bench_raw.%I (like ledger.%I including all)', source.relname, source.relname)
         || coalesce(' partition by ' || source.partition_key, '')
         || coalesce(' with (' || source.options || ')', '');
    for partition in
      select c.relname, pg_get_expr(c.relpartbound, c.oid) as bound, array_to_string(c.reloptions, ', ') as options
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = source.oid
    loop
      execute format('create table bench_raw.%I partition of bench_raw.%I %s',
                     partition.relname, source.relname, partition.bound)
           || coalesce(' with (' || partition.options || ')', '');
    end loop;
  end loop;
end $$;

insert into bench_raw.shard_head select * from ledger.shard_head;
create sequence bench_raw.event_numbers;

-- One transfer of one posting. Updating the account with the lower id first locks both in order; the check constraint
-- never_below_floor refuses an overdraft. The texts (postings, balances, payload) come from the client, as long as those
-- that the ledger writes: building them here would only slow the raw line down.
-- `contiguous` takes the event's number from the shard's head, as the ledger does, which lets one transfer commit at a
-- time; otherwise from a sequence, which leaves gaps but lets many commit with one write to the disk.
create function bench_raw.transfer(
  contiguous boolean, id uuid, aggregate text, key text, fingerprint bytea, debit uuid, credit uuid, amount bigint,
  transfer_currency text, debit_bucket smallint, credit_bucket smallint, postings json, balances json, payload text
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
  debited      bench_raw.accounts;
  credited     bench_raw.accounts;
  number       bigint;
  at           timestamptz(3) := clock_timestamp();
begin
  insert into bench_raw.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
  values (debit_bucket, 'local', 'create_transfer', key, fingerprint, id) on conflict do nothing;
  if not found then
    raise exception 'the key % is used', key;
  end if;

  if debit < credit then
    update bench_raw.accounts a
       set posted_minor_units = a.posted_minor_units - amount, version = a.version + 1,
           entry_sequence = a.entry_sequence + 1, last_post_time = greatest(a.last_post_time, at),
           last_effective_time = greatest(a.last_effective_time, at)
     where a.account_id = debit returning * into debited;
  end if;
  update bench_raw.accounts a
     set posted_minor_units = a.posted_minor_units + amount, version = a.version + 1,
         entry_sequence = a.entry_sequence + 1, last_post_time = greatest(a.last_post_time, at),
         last_effective_time = greatest(a.last_effective_time, at)
   where a.account_id = credit returning * into credited;
  if debit > credit then
    update bench_raw.accounts a
       set posted_minor_units = a.posted_minor_units - amount, version = a.version + 1,
           entry_sequence = a.entry_sequence + 1, last_post_time = greatest(a.last_post_time, at),
           last_effective_time = greatest(a.last_effective_time, at)
     where a.account_id = debit returning * into debited;
  end if;
  if debited.status is distinct from 'ACTIVE' or credited.status is distinct from 'ACTIVE'
     or debited.currency <> transfer_currency or credited.currency <> transfer_currency then
    raise exception 'refused';
  end if;
  at := greatest(debited.last_post_time, credited.last_post_time);

  insert into bench_raw.entries (account_id, sequence, bucket, transfer_id, posting_index, amount_minor_units,
                                 balance_after_minor_units, currency, counterparty_account_id, post_time, effective_time)
  values (debit, debited.entry_sequence, debit_bucket, id, 0, -amount, debited.posted_minor_units, transfer_currency,
          credit, at, at),
         (credit, credited.entry_sequence, credit_bucket, id, 0, amount, credited.posted_minor_units, transfer_currency,
          debit, at, at);

  if contiguous then
    update bench_raw.shard_head h
       set sequence = h.sequence + 1, last_occurred_at = greatest(h.last_occurred_at, at)
    returning h.sequence into number;
  else
    number := nextval('bench_raw.event_numbers');
  end if;
  insert into bench_raw.transfers (transfer_id, bucket, state, type, memo, metadata, postings, balances, post_time,
                                   effective_time, event_number)
  values (id, debit_bucket, 'POSTED', 'transfer', '', '{}', postings, balances, at, at, number);
  insert into bench_raw.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
  values (number, debit_bucket, aggregate, 1, 'transfer_posted', 1, payload, at);
  return number;
end $$;

-- The same for many transfers at once, set by set, with numbers from the shard's head: what Postgres does at its best when
-- whole batches are known. Accounts are locked in the order of their ids, so that two batches cannot deadlock.
create function bench_raw.transfers(
  ids uuid[], aggregates text[], keys text[], fingerprints bytea[], debits uuid[], credits uuid[], amount bigint,
  transfer_currency text, debit_buckets smallint[], credit_buckets smallint[], postings text[], balances text[],
  payloads text[]
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
  total        constant bigint := cardinality(ids);
  written      bigint;
  all_active   boolean;
  at           timestamptz(3);
  first_number bigint;
begin
  insert into bench_raw.idempotency_keys (bucket, caller, method, key, fingerprint, resource_id)
  select n.bucket, 'local', 'create_transfer', n.key, n.fingerprint, n.id
    from unnest(debit_buckets, keys, fingerprints, ids) n (bucket, key, fingerprint, id)
      on conflict do nothing;
  get diagnostics written = row_count;
  if written <> total then
    raise exception 'a key is used';
  end if;

  select bool_and(a.status = 'ACTIVE' and a.currency = transfer_currency),
         greatest(clock_timestamp(), max(a.last_post_time))
    into all_active, at
    from (select * from bench_raw.accounts where account_id = any (debits || credits)
           order by account_id for no key update) a;
  if not all_active then
    raise exception 'refused';
  end if;

  insert into bench_raw.entries (account_id, sequence, bucket, transfer_id, posting_index, amount_minor_units,
                                 balance_after_minor_units, currency, counterparty_account_id, post_time, effective_time)
  select l.account_id, a.entry_sequence + row_number() over so_far, l.bucket, l.id, 0, l.amount,
         a.posted_minor_units + sum(l.amount) over so_far, transfer_currency, l.counterparty, at, at
    from (select n.debit as account_id, n.bucket, n.id, -amount as amount, n.credit as counterparty, n.ordinal
            from unnest(ids, debits, credits, debit_buckets) with ordinality n (id, debit, credit, bucket, ordinal)
          union all
          select n.credit, n.bucket, n.id, amount, n.debit, n.ordinal
            from unnest(ids, debits, credits, credit_buckets) with ordinality n (id, debit, credit, bucket, ordinal)) l
    join bench_raw.accounts a on a.account_id = l.account_id
  window so_far as (partition by l.account_id order by l.ordinal);

  update bench_raw.accounts a
     set posted_minor_units = a.posted_minor_units + l.amount, version = a.version + l.lines,
         entry_sequence = a.entry_sequence + l.lines, last_post_time = at,
         last_effective_time = greatest(a.last_effective_time, at)
    from (select n.account_id, sum(n.amount) as amount, count(*) as lines
            from (select unnest(debits) as account_id, -amount as amount
                  union all select unnest(credits), amount) n
           group by n.account_id) l
   where a.account_id = l.account_id;

  update bench_raw.shard_head h
     set sequence = h.sequence + total, last_occurred_at = greatest(h.last_occurred_at, at)
  returning h.sequence - total + 1 into first_number;
  insert into bench_raw.transfers (transfer_id, bucket, state, type, memo, metadata, postings, balances, post_time,
                                   effective_time, event_number)
  select n.id, n.bucket, 'POSTED', 'transfer', '', '{}', n.postings::json, n.balances::json, at, at,
         first_number - 1 + n.ordinal
    from unnest(ids, debit_buckets, postings, balances) with ordinality n (id, bucket, postings, balances, ordinal);
  insert into bench_raw.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
  select first_number - 1 + n.ordinal, n.bucket, n.aggregate, 1, 'transfer_posted', 1, n.payload, at
    from unnest(debit_buckets, aggregates, payloads) with ordinality n (bucket, aggregate, payload, ordinal);
  return first_number;
end $$;
