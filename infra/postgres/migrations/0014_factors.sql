-- Up Migration

-- The second factor, devices, what sign-ins are compared with, and funding sources (docs/decisions/0022-second-factor-and-signals.md).
-- All of it belongs to the user's bucket, and is erased with the user.

-- services/identity/totp.ts has the states.
create table identity.totp (
  user_id         uuid primary key,
  bucket          smallint not null,
  state           text not null check (state in ('PENDING', 'ACTIVE')),
  secret_sealed   bytea not null,
  last_step       bigint not null default 0,      -- the newest time step whose code was accepted
  failed_attempts smallint not null default 0 check (failed_attempts between 0 and 5),
  locked_until    timestamptz(3),
  version         bigint not null default 1,
  created_at      timestamptz(3) not null default now(),
  confirmed_at    timestamptz(3),
  check ((state = 'ACTIVE') = (confirmed_at is not null))
);

create table identity.recovery_codes (
  user_id   uuid not null,
  code_hash bytea not null,     -- keyed
  bucket    smallint not null,
  used_at   timestamptz(3),
  primary key (user_id, code_hash)
);

create table identity.devices (
  device_id        uuid primary key,
  bucket           smallint not null,
  user_id          uuid not null,
  fingerprint      text not null,
  browser          text not null,
  operating_system text not null,
  last_address     text not null,
  last_country     text not null,
  first_login_at   timestamptz(3) not null default now(),
  last_login_at    timestamptz(3) not null default now(),
  unique (user_id, fingerprint)
);

-- Which countries a user has signed in from.
create table identity.login_countries (
  user_id       uuid not null,
  country       text not null,
  bucket        smallint not null,
  first_login_at timestamptz(3) not null default now(),
  primary key (user_id, country)
);

-- What the next attempt is compared with. One row a user, locked by every attempt, so that counts are exact.
create table identity.login_states (
  user_id          uuid primary key,
  bucket           smallint not null,
  last_login_at    timestamptz(3),                -- the last successful one with a known country
  last_country     text,
  has_signed_in    boolean not null default false,
  failures         integer not null default 0,    -- since failures_since
  failures_since   timestamptz(3)
);

alter table identity.login_events add column country text not null default '';   -- ISO 3166-1 alpha-2; '' when not known

create table identity.funding_sources (
  funding_source_id uuid primary key,
  bucket            smallint not null,
  user_id           uuid not null,
  kind              text not null check (kind in ('BANK_ACCOUNT', 'CARD', 'WALLET')),
  provider          text not null,
  provider_token    text not null,
  name              text not null,
  last4             text not null check (length(last4) in (0, 4)),
  expiry_month      smallint not null default 0,
  expiry_year       smallint not null default 0,
  created_at        timestamptz(3) not null default now(),
  check ((kind = 'CARD') = (expiry_month between 1 and 12 and expiry_year > 0)),
  unique (user_id, provider, provider_token)
);

grant select, insert, update, delete on identity.totp, identity.recovery_codes, identity.devices, identity.login_countries,
  identity.login_states, identity.funding_sources to identity;
