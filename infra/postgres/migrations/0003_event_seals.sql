-- Up Migration

-- The hash chain over a shard's events (lib/event-chain.ts has the format, docs/audit.md what it proves). The relay adds a
-- row for each run of events that it reads; a row is never changed. One line without a fork: a seal's first number is its
-- own, and the seal before it must be there.
create table relay.seals (
  first_number    bigint primary key check (first_number >= 1),
  last_number     bigint not null unique,
  previous_number bigint generated always as (nullif(first_number - 1, 0)) stored references relay.seals (last_number),
  format          smallint not null check (format = 1),
  event_hashes    bytea not null,   -- 32 bytes of each event, in order
  chain_hash      bytea not null,   -- of the chain up to the last number
  sealed_at       timestamptz(3) not null default clock_timestamp(),
  constraint at_most_1000_events check (last_number - first_number between 0 and 999),
  constraint whole_hashes check (octet_length(event_hashes) = 32 * (last_number - first_number + 1)
                                 and octet_length(chain_hash) = 32)
);
-- Hashes do not compress.
alter table relay.seals alter column event_hashes set storage external;

-- No role has the privilege; this stops also the owner, unless it is done on purpose.
create function relay.refuse_change_of_seals() returns trigger language plpgsql as $$
begin
  raise exception 'a seal is never changed or removed (docs/audit.md)';
end $$;
create trigger seals_are_final before update or delete or truncate on relay.seals
  for each statement execute function relay.refuse_change_of_seals();

-- Events up to here were published before they were sealed, because there were no seals yet. Every later one is sealed
-- before the cursor passes it.
alter table relay.cursor add column number_before_seals bigint not null default 0;
update relay.cursor set number_before_seals = number;

grant select, insert on relay.seals to relay;

-- Reads everything of the ledger and its seals, and writes nothing.
grant usage on schema ledger, relay to auditor;
grant select on all tables in schema ledger, relay to auditor;
alter default privileges in schema ledger, relay grant select on tables to auditor;
