-- Up Migration

-- Exchange (docs/exchange.md): market rates, and quotes that a conversion uses once.

-- Market rates: the same on every shard, so that each can quote while others are away. Rows are only ever added. Of a pair the
-- latest `as_of` counts; of several with the same one, the highest (spread_bps, base, rate), so that all shards agree whatever
-- came to them first.
create table ledger.rates (
  pair       text collate "C" not null,         -- both codes in alphabetical order
  as_of      timestamptz(3) not null,
  spread_bps smallint not null,
  base       text collate "C" not null,
  rate       text collate "C" not null,         -- a decimal with all its digits: units of the quote currency for one of the base
  quote      text collate "C" not null,
  set_at     timestamptz(3) not null default clock_timestamp(),
  set_by     text not null,
  primary key (pair, as_of, spread_bps, base, rate)
);

-- What a client was promised. The amounts never change.
--   OPEN -> USED               by a conversion whose payer is on this shard: in the transfer's own commit
--   OPEN -> RESERVED           by a conversion whose payer is on another shard, before that shard decides
--   RESERVED -> USED | OPEN    that shard has committed; it has not, and never will
create table ledger.quotes (
  quote_id            uuid not null,
  bucket              smallint not null,        -- of the debit account if one was named
  caller              text not null,
  debit_account_id    uuid,                     -- null: any
  sell_currency       text not null,
  sell_minor_units    bigint not null check (sell_minor_units > 0),
  buy_currency        text not null,
  buy_minor_units     bigint not null check (buy_minor_units > 0),
  residue_minor_units bigint not null check (residue_minor_units >= 0),
  rate                text not null,            -- the client's, as it was shown
  created_at          timestamptz(3) not null,
  expire_time         timestamptz(3) not null,
  state               text not null check (state in ('OPEN', 'RESERVED', 'USED')),
  transfer_id         uuid,                     -- that reserved or used it
  reserved_at         timestamptz(3),
  primary key (quote_id),
  constraint a_claim_names_its_transfer check ((state = 'OPEN') = (transfer_id is null))
) partition by range (quote_id);

create table ledger.quotes_default partition of ledger.quotes default;
create index quotes_by_transfer on ledger.quotes (transfer_id) where transfer_id is not null;
create index reserved_quotes on ledger.quotes (reserved_at) where state = 'RESERVED';

grant select, insert on ledger.rates to ledger;
grant select, insert, update on ledger.quotes to ledger;
