-- Up Migration

-- The ledger of one shard. Every table with a `bucket` column belongs to the buckets of the shard.
-- Partitioned from the start (design.md): entries and events by month, transfers by the month inside their id,
-- keys by hash of bucket. Each has a default partition, so that a missing month can never stop a payment.
-- Roles: only `ledger` may write, and nobody may update or delete an entry, a transfer or an event.

create schema ledger;

-- One row: the end of this shard's event log. Its update is the last thing before a commit, so numbers are contiguous
-- and in commit order, and N is visible before N + 1.
create table ledger.shard_head (
  singleton        boolean primary key default true check (singleton),
  shard            smallint not null,
  sequence         bigint not null default 0,
  last_occurred_at timestamptz(3) not null default '-infinity',
  map_version      integer not null
);

-- Which shard has which buckets, as of a version. The same on every shard.
create table ledger.bucket_map (
  map_version  integer not null,
  first_bucket smallint not null,
  last_bucket  smallint not null check (last_bucket >= first_bucket),
  shard        smallint not null,
  primary key (map_version, first_bucket)
);

create table ledger.accounts (
  account_id          uuid primary key,
  bucket              smallint not null,
  owner_id            text not null,              -- '' when it belongs to the service that opened it
  opened_by           text not null,
  currency            text not null,
  kind                text not null check (kind in ('WALLET', 'MERCHANT', 'SYSTEM')),
  status              text not null check (status in ('ACTIVE', 'FROZEN', 'PENDING', 'CLOSED')),
  posted_minor_units  bigint not null default 0,
  held_minor_units    bigint not null default 0 check (held_minor_units >= 0),
  floor_minor_units   bigint check (floor_minor_units <= 0),  -- null: unbounded
  version             bigint not null default 1,
  entry_sequence      bigint not null default 0,  -- of the account's newest entry
  last_post_time      timestamptz(3) not null default '-infinity',
  last_effective_time timestamptz(3) not null default '-infinity',
  reference           text not null,
  metadata            json not null,
  open_event_number   bigint not null default 0,
  -- The ledger checks this before it writes; Postgres checks it again.
  constraint never_below_floor check (posted_minor_units - held_minor_units >= floor_minor_units)
) with (fillfactor = 70);

create unique index accounts_by_reference
  on ledger.accounts ((case when owner_id = '' then opened_by else owner_id end), reference)
  where reference <> '' and reference not like 'system:%';

create unique index system_accounts_by_name on ledger.accounts (reference, currency) where reference like 'system:%';

create table ledger.transfers (
  transfer_id    uuid primary key,
  bucket         smallint not null,
  state          text not null check (state in ('POSTED', 'PROCESSING', 'FAILED', 'REVERSED')),
  type           text not null,
  memo           text not null,
  metadata       json not null,
  postings       json not null,   -- [[debit id, credit id, amount as text, currency], …]
  balances       json not null,   -- [[account id, posted as text, held as text, version as text], …]: those of the answer
  post_time      timestamptz(3) not null,
  effective_time timestamptz(3) not null,
  event_number   bigint not null
) partition by range (transfer_id);

create table ledger.entries (
  account_id                uuid not null,
  sequence                  bigint not null,
  bucket                    smallint not null,
  transfer_id               uuid not null,
  posting_index             smallint not null,
  amount_minor_units        bigint not null check (amount_minor_units <> 0),
  balance_after_minor_units bigint not null,
  currency                  text not null,
  counterparty_account_id   uuid not null,
  post_time                 timestamptz(3) not null,
  effective_time            timestamptz(3) not null,
  primary key (account_id, post_time, sequence)
) partition by range (post_time);

create table ledger.events (
  number            bigint not null,
  bucket            smallint not null,
  aggregate_id      text not null,
  aggregate_version bigint not null,
  type              text not null,
  schema_version    smallint not null,
  payload           text not null,
  occurred_at       timestamptz(3) not null,
  primary key (number, occurred_at)
) partition by range (occurred_at);

-- One row per command that was carried out or refused for good, in the command's own transaction.
create table ledger.idempotency_keys (
  bucket      smallint not null,
  caller      text not null,
  method      text not null,
  key         text not null,
  fingerprint bytea not null,      -- SHA-256 of the request's canonical form
  resource_id uuid not null,       -- what the command made, or would have made
  refusal     json,                -- {reason, message, metadata} when it was refused
  created_at  timestamptz(3) not null default now(),
  primary key (bucket, caller, method, key)
) partition by hash (bucket);

do $$
begin
  for remainder in 0..15 loop
    execute format('create table ledger.idempotency_keys_%s partition of ledger.idempotency_keys
                    for values with (modulus 16, remainder %s)', lpad(remainder::text, 2, '0'), remainder);
  end loop;
end $$;

create table ledger.transfers_default partition of ledger.transfers default;
create table ledger.entries_default partition of ledger.entries default;
create table ledger.events_default partition of ledger.events default;

create schema relay;

-- One row per shard: the last event that JetStream acknowledged.
create table relay.cursor (
  shard  smallint primary key,
  number bigint not null default 0
);

grant usage on schema ledger to ledger, relay, projector;
grant select on ledger.shard_head, ledger.bucket_map to ledger, relay, projector;
grant update on ledger.shard_head to ledger;
grant select, insert, update on ledger.accounts to ledger;
grant select, insert on ledger.transfers, ledger.entries, ledger.events to ledger;
grant select, insert, update, delete on ledger.idempotency_keys to ledger;
grant select on ledger.events to relay, projector;
grant usage on schema relay to relay, projector;
grant select, insert, update on relay.cursor to relay;
grant select on relay.cursor to projector;
