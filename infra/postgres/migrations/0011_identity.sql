-- Up Migration

-- Users and their sessions. Personal data is in this schema only, where it can be erased. All that a user owns is in the bucket
-- of their id; what belongs to an e-mail address (directory, limits) is in the bucket of the address. `email_key` is a keyed
-- hash of the normalised address: who reads the table learns no address from it.

create schema identity;

create table identity.users (
  user_id             uuid primary key,
  bucket              smallint not null,
  role                text not null check (role in ('USER', 'MERCHANT', 'OPERATOR')),
  status              text not null check (status in ('ACTIVE', 'CLOSED')),
  email               text,
  email_key           bytea,
  password_hash       text,             -- Argon2id in its own text form, which names its parameters
  name                text,
  phone               text,
  country             text,
  settings            json,
  version             bigint not null default 1,
  created_at          timestamptz(3) not null default now(),
  updated_at          timestamptz(3) not null default now(),
  password_changed_at timestamptz(3) not null default now(),
  closed_at           timestamptz(3),
  constraint active_has_an_address check
    (status = 'CLOSED' or num_nulls(email, email_key, password_hash, name, phone, country, settings) = 0),
  constraint closed_is_erased check
    (status = 'ACTIVE' or num_nonnulls(email, email_key, password_hash, name, phone, country, settings) = 0)
);

-- Which user an e-mail address belongs to: the one place that makes addresses unique. RESERVED: for a change of e-mail that waits
-- for its confirmation; from `expires_at` on it counts as free.
create table identity.login_directory (
  email_key  bytea primary key,
  bucket     smallint not null,
  user_id    uuid not null,
  state      text not null check (state in ('ACTIVE', 'RESERVED')),
  change_id  uuid,
  expires_at timestamptz(3),
  check ((state = 'RESERVED') = (expires_at is not null)),
  check (state = 'ACTIVE' or change_id is not null)
);
create index expiring_reservations on identity.login_directory (expires_at) where state = 'RESERVED';

create table identity.idempotency_keys (
  bucket      smallint not null,
  caller      text not null,
  method      text not null,
  key         text not null,
  fingerprint bytea not null,           -- keyed: a request may hold a password
  resource_id uuid not null,
  created_at  timestamptz(3) not null default now(),
  primary key (bucket, caller, method, key)
) partition by hash (bucket);

do $$
begin
  for remainder in 0..15 loop
    execute format('create table identity.idempotency_keys_%s partition of identity.idempotency_keys
                    for values with (modulus 16, remainder %s)', lpad(remainder::text, 2, '0'), remainder);
  end loop;
end $$;
create index identity_keys_by_age on identity.idempotency_keys (created_at);

create table identity.sessions (
  session_id          uuid primary key,
  bucket              smallint not null,
  user_id             uuid not null,
  state               text not null check (state in ('ACTIVE', 'REVOKED')),
  role                text not null check (role in ('USER', 'MERCHANT', 'OPERATOR')),
  second_factor       boolean not null,
  -- The refresh token that is good now: its number within the session, and the SHA-256 of its secret.
  refresh_number      integer not null default 1,
  refresh_hash        bytea not null,
  -- Of the call that made it, so that the call may be repeated.
  refresh_key_hash    bytea,
  refreshed_at        timestamptz(3) not null default now(),
  address             text not null,
  user_agent          text not null,
  created_at          timestamptz(3) not null default now(),
  last_used_at        timestamptz(3) not null default now(),
  expires_at          timestamptz(3) not null,
  revoked_at          timestamptz(3),
  revoke_reason       text,
  check ((state = 'REVOKED') = (revoked_at is not null))
);
create index sessions_by_user on identity.sessions (user_id, session_id);
create index sessions_revoked on identity.sessions (revoked_at, session_id) where state = 'REVOKED';
create index sessions_by_expiry on identity.sessions (expires_at);

-- A password was right, and the second factor is asked for.
create table identity.login_challenges (
  challenge_id uuid primary key,
  bucket       smallint not null,
  user_id      uuid not null,
  secret_hash  bytea not null,
  attempts     integer not null default 0,
  created_at   timestamptz(3) not null default now(),
  expires_at   timestamptz(3) not null
);
create index login_challenges_by_expiry on identity.login_challenges (expires_at);

-- Attempts to sign in as a user, successful or not.
create table identity.login_events (
  login_event_id     uuid primary key,
  bucket             smallint not null,
  user_id            uuid not null,
  success            boolean not null,
  failure            text not null,     -- '' when successful
  session_id         uuid,
  address            text not null,     -- as the gateway saw it; '' when the call came another way
  user_agent         text not null,
  browser            text not null,
  operating_system   text not null,
  device_fingerprint text not null,
  occurred_at        timestamptz(3) not null default now()
);
create index login_events_by_user on identity.login_events (user_id, occurred_at);

-- Token buckets of attempts to sign in, one per e-mail address that was tried, known or not.
create table identity.sign_in_limits (
  email_key  bytea primary key,
  bucket     smallint not null,
  tokens     double precision not null,
  updated_at timestamptz not null
);
create index sign_in_limits_by_age on identity.sign_in_limits (updated_at);

-- services/identity/email-change.ts has the states.
create table identity.email_changes (
  change_id      uuid primary key,
  bucket         smallint not null,
  user_id        uuid not null,
  state          text not null check (state in ('REQUESTED', 'PENDING', 'CONFIRMED', 'SWITCHED', 'CANCELED')),
  new_email      text not null,
  new_email_key  bytea not null,
  old_email_key  bytea not null,
  token_hash     bytea,
  created_at     timestamptz(3) not null default now(),
  updated_at     timestamptz(3) not null default now(),
  expires_at     timestamptz(3) not null
);
create unique index one_email_change_per_user on identity.email_changes (user_id) where state <> 'CANCELED';
create index email_changes_by_age on identity.email_changes (updated_at, change_id);

-- A row is deleted when its message was handed over.
create table identity.outgoing_emails (
  email_id     uuid primary key,
  bucket       smallint not null,
  user_id      uuid not null,
  recipient    text not null,
  subject      text not null,
  body         text not null,
  attempts     integer not null default 0,
  next_at      timestamptz(3) not null default now(),
  created_at   timestamptz(3) not null default now()
);
create index outgoing_emails_due on identity.outgoing_emails (next_at, email_id);
create index outgoing_emails_by_user on identity.outgoing_emails (user_id);

-- On shard 1 only. services/identity/signing-keys.ts has the states.
create table identity.signing_keys (
  key_id             text primary key,
  state              text not null check (state in ('PENDING', 'ACTIVE', 'RETIRED')),
  public_key         text not null,     -- a JWK
  private_key_sealed bytea not null,
  created_at         timestamptz(3) not null default now(),
  activated_at       timestamptz(3),
  retired_at         timestamptz(3)
);
create unique index one_active_signing_key on identity.signing_keys ((true)) where state = 'ACTIVE';

grant usage on schema identity to identity;
grant select, insert, update, delete on all tables in schema identity to identity;
grant usage on schema ledger to identity;
grant select on ledger.shard_head, ledger.bucket_map to identity;
