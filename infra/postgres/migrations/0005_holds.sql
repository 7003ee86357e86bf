-- Up Migration

-- Money set aside at the payer for later captures; the states are at the top of services/ledger/hold.ts. What is left of the
-- open holds of an account is its held_minor_units.
create table ledger.holds (
  hold_id              uuid primary key,
  bucket               smallint not null,         -- the payer's
  debit_account_id     uuid not null,
  credit_account_id    uuid not null,
  amount_minor_units   bigint not null check (amount_minor_units > 0),
  captured_minor_units bigint not null default 0,
  currency             text not null,
  state                text not null check (state in ('OPEN', 'CAPTURED', 'VOIDED', 'EXPIRED')),
  version              bigint not null,
  expire_time          timestamptz(3) not null,
  create_time          timestamptz(3) not null,
  constraint never_more_than_held check (captured_minor_units between 0 and amount_minor_units),
  -- The ledger closes a hold that is wholly captured in the same change.
  constraint open_holds_something check (state = 'CAPTURED' or captured_minor_units < amount_minor_units)
) with (fillfactor = 80);

-- What a worker has to look at: only what is open, the longest overdue first.
create index open_holds_by_expiry on ledger.holds (expire_time, hold_id) where state = 'OPEN';

grant select, insert, update on ledger.holds to ledger;
