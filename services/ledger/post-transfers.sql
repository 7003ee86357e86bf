-- Writes what a batch decided, all of it with one statement per table. The head of the event log is locked here, last, and only
-- until the commit that follows in the same round trip.
-- The accounts are locked by the caller; or, by an optimistic batch, locked here in the order given (callers sort them, so that
-- two batches cannot deadlock), and must be as they were when it was decided.
-- Texts that are joined (lib/sql-arrays.ts) are JSON.
-- Answers the number of the batch's first event, and the clock. Raises LM001 when the bucket map is not the one that was
-- evaluated with, LM002 when an optimistic batch was decided on what is not so.
create or replace function ledger.post_transfers(
  expected_map_version integer,
  -- an optimistic batch: the time that it was decided with, the keys that it takes, and the accounts that it only reads, as
  -- they were taken to be; of another batch the time is null, and the arrays are empty
  decided_at timestamptz,
  claimed_buckets smallint[], claimed_callers text[], claimed_methods text[], claimed_keys text[],
  claimed_fingerprints bytea[], claimed_resource_ids uuid[],
  read_ids uuid[], read_posted bigint[], read_held bigint[], read_prepared_debits bigint[], read_prepared_credits bigint[],
  read_statuses text[], read_versions bigint[], read_sequences bigint[], read_post_times timestamptz[],
  read_effective_times timestamptz[],
  -- transfers, each with the ordinal (from 0) of its event
  transfer_ids uuid[], buckets smallint[], types text[], memos text[], joined_metadatas text, joined_postings text,
  joined_balances text, post_times timestamptz[], effective_times timestamptz[], joined_links text, event_ordinals integer[],
  -- entries
  entry_account_ids uuid[], entry_sequences bigint[], entry_buckets smallint[], entry_transfer_ids uuid[],
  entry_posting_indexes smallint[], entry_amounts bigint[], entry_balances bigint[], entry_currencies text[],
  entry_counterparties uuid[], entry_post_times timestamptz[], entry_effective_times timestamptz[],
  -- accounts as they are now
  account_ids uuid[], account_posted bigint[], account_held bigint[], account_prepared_debits bigint[],
  account_prepared_credits bigint[], account_statuses text[], account_versions bigint[], account_sequences bigint[],
  account_post_times timestamptz[], account_effective_times timestamptz[],
  -- as they were when an optimistic batch was decided; null when they are locked already
  posted_before bigint[], held_before bigint[], prepared_debits_before bigint[], prepared_credits_before bigint[],
  statuses_before text[], versions_before bigint[], sequences_before bigint[], post_times_before timestamptz[],
  effective_times_before timestamptz[],
  -- events, in order
  event_buckets smallint[], aggregate_ids text[], aggregate_versions bigint[], event_types text[], joined_payloads text,
  -- keys of refused commands: remembered with the refusal, or given back when refusal is null
  refused_buckets smallint[], refused_callers text[], refused_methods text[], refused_keys text[], refusals text[]
) returns table (first_number bigint, clock_ms double precision) language plpgsql as $$
declare
  max_age constant interval := '1 second';
  event_count constant integer := cardinality(event_buckets);
  now_is  timestamptz := clock_timestamp();
  head    ledger.shard_head;
  changed bigint;
begin
  if not (decided_at <= now_is and decided_at > now_is - max_age) then
    perform ledger.refuse_assumption('the clock has moved away');
  end if;
  if cardinality(claimed_keys) > 0 then
    perform ledger.claim_free_keys(claimed_buckets, claimed_callers, claimed_methods, claimed_keys, claimed_fingerprints,
                                   claimed_resource_ids);
  end if;

  if cardinality(refused_keys) > 0 then
    update ledger.idempotency_keys k set refusal = r.refusal::json
      from unnest(refused_buckets, refused_callers, refused_methods, refused_keys, refusals)
             r (bucket, caller, method, key, refusal)
     where r.refusal is not null
       and (k.bucket, k.caller, k.method, k.key) = (r.bucket, r.caller, r.method, r.key);
    delete from ledger.idempotency_keys k
     using unnest(refused_buckets, refused_callers, refused_methods, refused_keys, refusals)
             r (bucket, caller, method, key, refusal)
     where r.refusal is null
       and (k.bucket, k.caller, k.method, k.key) = (r.bucket, r.caller, r.method, r.key);
  end if;

  update ledger.accounts a
     set posted_minor_units = n.posted, held_minor_units = n.held, prepared_debit_minor_units = n.prepared_debit,
         prepared_credit_minor_units = n.prepared_credit, status = n.status, version = n.version,
         entry_sequence = n.sequence, last_post_time = n.post_time, last_effective_time = n.effective_time
    from unnest(account_ids, account_posted, account_held, account_prepared_debits, account_prepared_credits,
                account_statuses, account_versions, account_sequences, account_post_times, account_effective_times,
                posted_before, held_before, prepared_debits_before, prepared_credits_before, statuses_before,
                versions_before, sequences_before, post_times_before, effective_times_before)
         n (account_id, posted, held, prepared_debit, prepared_credit, status, version, sequence, post_time, effective_time,
            posted_before, held_before, prepared_debit_before, prepared_credit_before, status_before, version_before,
            sequence_before, post_time_before, effective_time_before)
   where a.account_id = n.account_id
     -- All of it, not the version alone: a guess may stand on a batch that failed, and another process may have come to the same
     -- version another way.
     and (n.version_before is null
          or (a.posted_minor_units, a.held_minor_units, a.prepared_debit_minor_units, a.prepared_credit_minor_units,
              a.status, a.version, a.entry_sequence, a.last_post_time, a.last_effective_time)
             = (n.posted_before, n.held_before, n.prepared_debit_before, n.prepared_credit_before, n.status_before,
                n.version_before, n.sequence_before, n.post_time_before, n.effective_time_before));
  get diagnostics changed = row_count;
  if changed <> cardinality(account_ids) then perform ledger.refuse_assumption('an account has changed'); end if;

  insert into ledger.entries (account_id, sequence, bucket, transfer_id, posting_index, amount_minor_units,
                              balance_after_minor_units, currency, counterparty_account_id, post_time, effective_time)
  select * from unnest(entry_account_ids, entry_sequences, entry_buckets, entry_transfer_ids, entry_posting_indexes,
                       entry_amounts, entry_balances, entry_currencies, entry_counterparties, entry_post_times,
                       entry_effective_times);

  update ledger.shard_head
     set sequence = sequence + event_count,
         last_occurred_at = greatest(last_occurred_at, clock_timestamp())
  returning * into head;
  if head.map_version <> expected_map_version then
    raise exception 'the bucket map is at version %, not %', head.map_version, expected_map_version
      using errcode = 'LM001';
  end if;
  -- Under the head's lock: of two batches that each read what the other changes, the later one finds out.
  if cardinality(read_ids) > 0 then
    perform ledger.check_accounts(read_ids, read_posted, read_held, read_prepared_debits, read_prepared_credits,
                                  read_statuses, read_versions, read_sequences, read_post_times, read_effective_times);
  end if;
  first_number := head.sequence - event_count + 1;

  insert into ledger.transfers (transfer_id, bucket, state, type, memo, metadata, postings, balances, post_time,
                                effective_time, links, event_number)
  select n.transfer_id, n.bucket, 'POSTED', n.type, n.memo, n.metadata::json, n.postings::json, n.balances::json,
         n.post_time, n.effective_time, n.links::json, first_number + n.event_ordinal
    from unnest(transfer_ids, buckets, types, memos, string_to_array(joined_metadatas, E'\x1f'),
                string_to_array(joined_postings, E'\x1f'), string_to_array(joined_balances, E'\x1f'), post_times,
                effective_times, string_to_array(joined_links, E'\x1f', ''), event_ordinals)
         n (transfer_id, bucket, type, memo, metadata, postings, balances, post_time, effective_time, links, event_ordinal);

  insert into ledger.events (number, bucket, aggregate_id, aggregate_version, type, schema_version, payload, occurred_at)
  select first_number - 1 + n.ordinal, n.bucket, n.aggregate_id, n.aggregate_version, n.type, 1, n.payload,
         head.last_occurred_at
    from unnest(event_buckets, aggregate_ids, aggregate_versions, event_types, string_to_array(joined_payloads, E'\x1f'))
         with ordinality n (bucket, aggregate_id, aggregate_version, type, payload, ordinal);

  clock_ms := floor(extract(epoch from clock_timestamp()) * 1000);
  return next;
end $$;
