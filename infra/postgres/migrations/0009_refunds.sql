-- Up Migration

-- Taking transfers back (docs/decisions/0016-reversal.md). What of a posting has been taken back lives beside the account that
-- the posting credited, and changes in the commit that debits this account: whoever writes it has the account locked. Without
-- a row nothing has been taken back.
--   PARTIAL -> EXHAUSTED    nothing is left
--   EXHAUSTED -> NOTED      the transfer's own shard knows
create table ledger.refunded_postings (
  transfer_id          uuid not null,           -- the one that is taken back
  posting_index        smallint not null,
  bucket               smallint not null,       -- of the credited account
  credited_minor_units bigint not null,
  refunded_minor_units bigint not null check (refunded_minor_units > 0),
  state                text not null check (state in ('PARTIAL', 'EXHAUSTED', 'NOTED')),
  exhausted_at         timestamptz(3),
  primary key (transfer_id, posting_index),
  -- The ledger checks this before it writes; Postgres checks it again.
  constraint never_more_than_credited check (refunded_minor_units <= credited_minor_units),
  constraint exhausted_when_nothing_is_left check ((state = 'PARTIAL') = (refunded_minor_units < credited_minor_units)
                                                   and (state = 'PARTIAL') = (exhausted_at is null))
);

create index exhausted_postings on ledger.refunded_postings (exhausted_at, transfer_id) where state = 'EXHAUSTED';

-- On the transfer's own shard: which of its postings are wholly taken back, ascending; null: none. With all of them its state
-- is REVERSED. Nothing else of a transfer may change.
alter table ledger.transfers add reversed_postings smallint[];

grant select, insert, update on ledger.refunded_postings to ledger;
grant update (state, reversed_postings) on ledger.transfers to ledger;
