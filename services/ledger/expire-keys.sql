-- Deletes up to max_rows idempotency keys, and up to max_rows decisions of cross-shard transfers, that are older than
-- retention_days; the keys oldest first. Answers how many of each.
-- A key stays while its command is unfinished: its transfer is COMMITTED, and not every leg is posted. Such a decision stays
-- as well.
-- Nobody is waited for: rows that another transaction has locked are left to the next call, and where another process is
-- just deleting, this one does nothing. A payment that meets a key which is being deleted waits for the end of this
-- transaction, and finds the key free.
create or replace function ledger.expire_keys(retention_days integer, max_rows integer)
returns table (expired_keys bigint, expired_decisions bigint) language plpgsql as $$
declare
  expiry_lock constant bigint := 7236005;
  -- A mistaken setting must not make every payment repeatable.
  min_days    constant integer := 1;
  cutoff      timestamptz := now() - make_interval(days => greatest(retention_days, min_days));
begin
  expired_keys := 0;
  expired_decisions := 0;
  if pg_try_advisory_xact_lock(expiry_lock) then
    with expired as (
      select k.bucket, k.caller, k.method, k.key from ledger.idempotency_keys k
       where k.created_at < cutoff
         -- A look-up per key, whatever the planner thinks of a join.
         and (select d.state from ledger.decisions d where d.transfer_id = k.resource_id) is distinct from 'COMMITTED'
       order by k.created_at limit max_rows for update of k skip locked
    )
    delete from ledger.idempotency_keys k using expired e
     where (k.bucket, k.caller, k.method, k.key) = (e.bucket, e.caller, e.method, e.key);
    get diagnostics expired_keys = row_count;

    -- A transfer's id is older than the decision on it, so the oldest decisions are first in the primary key.
    with expired as (
      select d.transfer_id from ledger.decisions d
       where d.transfer_id < ledger.first_id_of(cutoff) and d.decided_at < cutoff and d.state <> 'COMMITTED'
       order by d.transfer_id limit max_rows for update of d skip locked
    )
    delete from ledger.decisions d using expired e where d.transfer_id = e.transfer_id;
    get diagnostics expired_decisions = row_count;
  end if;
  return next;
end $$;
