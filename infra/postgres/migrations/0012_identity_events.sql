-- Up Migration

-- The log of what happens to users, in the shape and with the guarantees of the ledger's (0001_ledger.sql, 0003_event_seals.sql):
-- contiguous numbers in commit order, nothing ever changed, every event published and sealed. No personal data.

create schema if not exists identity;

-- One row: the end of this shard's identity log.
create table identity.shard_head (
  singleton        boolean primary key default true check (singleton),
  sequence         bigint not null default 0,
  last_occurred_at timestamptz(3) not null default '-infinity'
);
insert into identity.shard_head default values;

create table identity.events (
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
create table identity.events_default partition of identity.events default;

create table relay.identity_cursor (
  shard               smallint primary key,
  number              bigint not null default 0,
  -- As in relay.cursor; this log has always been sealed.
  number_before_seals bigint not null default 0
);

create table relay.identity_seals (
  first_number    bigint primary key check (first_number >= 1),
  last_number     bigint not null unique,
  previous_number bigint generated always as (nullif(first_number - 1, 0)) stored
                  references relay.identity_seals (last_number),
  format          smallint not null check (format = 1),
  event_hashes    bytea not null,   -- 32 bytes of each event, in order
  chain_hash      bytea not null,   -- of the chain up to the last number
  sealed_at       timestamptz(3) not null default clock_timestamp(),
  constraint identity_at_most_1000_events check (last_number - first_number between 0 and 999),
  constraint identity_whole_hashes check (octet_length(event_hashes) = 32 * (last_number - first_number + 1)
                                          and octet_length(chain_hash) = 32)
);
alter table relay.identity_seals alter column event_hashes set storage external;
create trigger identity_seals_are_final before update or delete or truncate on relay.identity_seals
  for each statement execute function relay.refuse_change_of_seals();

grant usage on schema identity to identity;
grant select, update on identity.shard_head to identity;
grant select, insert on identity.events to identity;
grant usage on schema identity to relay, auditor;
grant select on identity.shard_head, identity.events to relay, auditor;
grant select, insert, update on relay.identity_cursor to relay;
grant select, insert on relay.identity_seals to relay;
