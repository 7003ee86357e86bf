-- Up Migration

-- Transfers between shards (docs/decisions/0010-cross-shard.md): the payer's shard decides, the other shards are prepared
-- before and post after it.

-- Open prepared amounts of other shards' transfers. They are no balance yet; they keep room for the posting, which can not
-- be refused any more, and keep the account from being closed.
alter table ledger.accounts
  add prepared_debit_minor_units  bigint not null default 0 check (prepared_debit_minor_units >= 0),
  add prepared_credit_minor_units bigint not null default 0 check (prepared_credit_minor_units >= 0);

-- Of commands that made no transfer: the number of their event, for the position of a replay.
alter table ledger.idempotency_keys add event_number bigint;

-- What a transfer belongs to: {"hold_id": …, "reverses_transfer_id": …, "quote_id": …}; null for most.
alter table ledger.transfers add links json;

-- On the payer's shard: what became of a transfer that has legs on other shards. The row is written in the transfer's own
-- commit; or before it, by recovery, as a tombstone, and then that commit can not happen any more.
--   COMMITTED -> CLOSED    every leg is posted
--   ABORTED                nothing has happened, and nothing will
create table ledger.decisions (
  transfer_id uuid primary key,
  bucket      smallint not null,
  state       text not null check (state in ('COMMITTED', 'CLOSED', 'ABORTED')),
  decided_at  timestamptz(3) not null default clock_timestamp()
);

create index open_decisions on ledger.decisions (decided_at) where state = 'COMMITTED';

-- On the other shards: one posting's part of such a transfer. The side that is not here is the transit account's.
--   PREPARED -> POSTED      the payer's shard has committed
--   PREPARED -> RELEASED    it has not, and never will
create table ledger.remote_legs (
  transfer_id        uuid not null,
  posting_index      smallint not null,
  bucket             smallint not null,           -- of the credit account if it is here, else of the debit account
  debit_account_id   uuid not null,
  credit_account_id  uuid not null,
  debit_is_here      boolean not null,
  credit_is_here     boolean not null,
  amount_minor_units bigint not null check (amount_minor_units > 0),
  currency           text not null,
  type               text not null,
  memo               text not null,
  effective_time     timestamptz(3),              -- null: when it is posted
  state              text not null check (state in ('PREPARED', 'POSTED', 'RELEASED')),
  prepared_at        timestamptz(3) not null default clock_timestamp(),
  balances           json,                        -- as in ledger.transfers, of the accounts here, once posted
  event_number       bigint,                      -- once posted
  primary key (transfer_id, posting_index, bucket),
  check (debit_is_here or credit_is_here)
) partition by range (transfer_id);

create table ledger.remote_legs_default partition of ledger.remote_legs default;
create index open_remote_legs on ledger.remote_legs (prepared_at) where state = 'PREPARED';

grant select, insert, update, delete on ledger.decisions to ledger;
grant select, insert, update on ledger.remote_legs to ledger;

-- Their answers have other columns now; made anew right after the migrations.
drop function if exists ledger.claim_keys(smallint[], text[], text[], text[], bytea[], uuid[]);
drop function if exists ledger.lock_accounts(uuid[]);
drop function if exists ledger.read_transfer_keys(smallint[], text[], text[], text[]);
drop function if exists ledger.post_transfers(
  integer, uuid[], smallint[], text[], text[], text[], text[], text[], timestamptz[], timestamptz[], text[], text[],
  uuid[], bigint[], smallint[], uuid[], smallint[], bigint[], bigint[], text[], uuid[], timestamptz[], timestamptz[],
  uuid[], bigint[], bigint[], bigint[], timestamptz[], timestamptz[], smallint[], text[], text[], text[], text[]);
